-- Requests that wait, and the slots (hosts, mostly) whose turn comes.
--
-- An entry is "id depth attempt start crashes priority\npayload". `ready` has the slots with work
-- that nobody holds, scored by 1000 × ms plus their place among those of the same ms, so that
-- those who were first are served first. t:WORKER has the slots that it holds and that have work.

local fed, feeding = {}, {} -- slots that got work in this script

local function feed(slot)
  if not feeding[slot] then
    feeding[slot] = true
    fed[#fed + 1] = slot
  end
end

-- Queues of priorities other than 0 are few, mostly none: they are looked for if there ever was one.
local bands

local function has_bands()
  if bands == nil then bands = call('HGET', P .. 'meta', 'bands') end
  return bands
end

local function banded(slot, priority)
  call('ZADD', P .. 'b:' .. slot, priority, priority)
  call('HSET', P .. 'meta', 'bands', 1)
  bands = '1'
end

local function queue_of(slot, priority)
  if priority == '0' then return P .. 'q:' .. slot end
  return P .. 'p:' .. priority .. ':' .. slot
end

-- What comes back goes before all that is new.
local function front(slot, entry, priority)
  call('LPUSH', queue_of(slot, priority), entry)
  if priority ~= '0' then banded(slot, priority) end
  feed(slot)
end

local function header(entry)
  return match(entry, '^(%d+) (%d+) (%d+) (%d) (%d+) (%-?%d+)\n')
end

local function payload(entry)
  return sub(entry, string.find(entry, '\n', 1, true) + 1)
end

-- Let a stored request wait: to run alone, for a date, or for its turn.
local function enter(slot, entry, at)
  local id, _, _, _, crashes, priority = header(entry)
  crashes = tonumber(crashes)
  if crashes >= SUSPECT then
    call('HSET', P .. 'd', id, slot .. '\n' .. entry)
    call('ZADD', P .. 'suspects', crashes * 2 ^ 43 + id, id)
  elseif at > now then
    call('HSET', P .. 'd', id, slot .. '\n' .. entry)
    call('ZADD', P .. 'delayed', at, id)
  else
    front(slot, entry, priority)
  end
end

-- A request at rest, or leased: its slot and its entry.
local function parted(value)
  local at = string.find(value, '\n', 1, true)
  return sub(value, 1, at - 1), sub(value, at + 1)
end

-- Queue what waited for a date that has come.
local function wake()
  local ids = call('ZRANGEBYSCORE', P .. 'delayed', '-inf', now, 'LIMIT', 0, 500)
  if #ids == 0 then return end
  local values = call('HMGET', P .. 'd', unpack(ids))
  for place = #ids, 1, -1 do -- the last first: the first shall be in front
    local slot, entry = parted(values[place])
    local _, _, _, _, _, priority = header(entry)
    front(slot, entry, priority)
  end
  call('HDEL', P .. 'd', unpack(ids))
  call('ZREM', P .. 'delayed', unpack(ids))
end

local function has_work(slot)
  return call('EXISTS', P .. 'q:' .. slot) > 0
    or has_bands() and call('EXISTS', P .. 'b:' .. slot) > 0
end

-- When a slot may be asked for, as it was last given back; 0 if it never was.
local function due_of(host)
  return host and tonumber(match(host, '^%d+')) or 0
end

-- Let a slot that nobody holds stand in line, with what line_up does.
local line = {}
local function stand(slot, due)
  line[#line + 1] = max(due, now) * 1000 + min(#line / 2, 999)
  line[#line + 1] = slot
end

-- Let the slots that got work stand in line, or their holders know.
local function line_up()
  if #fed > 0 then
    local owners, hosts, todo = fields(P .. 'held', fed), fields(P .. 'hosts', fed), {}
    for place, slot in ipairs(fed) do
      local owner = owners[place]
      if owner then
        todo[owner] = todo[owner] or {}
        table.insert(todo[owner], slot)
      else
        stand(slot, due_of(hosts[place]))
      end
    end
    for owner, slots in pairs(todo) do many('SADD', P .. 't:' .. owner, slots) end
    fed, feeding = {}, {}
  end
  for at = 1, #line, PIECE do
    call('ZADD', P .. 'ready', 'NX', unpack(line, at, min(at + PIECE - 1, #line)))
  end
  line = {}
end

-- Take the *n* best requests of a slot.
local function pop(slot, n)
  if not has_bands() then return call('LPOP', P .. 'q:' .. slot, n) or {} end
  local taken = {}
  local function take(priority)
    local asked = n - #taken
    local some = asked > 0 and call('LPOP', queue_of(slot, priority), asked) or {}
    for _, entry in ipairs(some) do taken[#taken + 1] = entry end
    if asked > 0 and priority ~= '0' and call('EXISTS', queue_of(slot, priority)) == 0 then
      call('ZREM', P .. 'b:' .. slot, priority)
    end
  end
  local priorities = call('ZREVRANGE', P .. 'b:' .. slot, 0, -1)
  local plain = false
  for _, priority in ipairs(priorities) do
    if not plain and tonumber(priority) < 0 then
      take('0')
      plain = true
    end
    take(priority)
  end
  if not plain then take('0') end
  return taken
end
