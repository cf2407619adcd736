-- Handing out: hosts that are due, more for those held, hosts asked for by name, and suspects.

-- Hosts (of several slots) of which one was told to pause, and until when: most often none.
local function pauses()
  local quiet = {}
  if call('EXISTS', P .. 'quiet') == 0 then return quiet end
  call('ZREMRANGEBYSCORE', P .. 'quiet', '-inf', now)
  local found = call('ZRANGE', P .. 'quiet', 0, -1, 'WITHSCORES')
  for at = 1, #found, 2 do quiet[found[at]] = tonumber(found[at + 1]) end
  return quiet
end

local function host_of(slot)
  local at = string.find(slot, '#', 1, true)
  return at and sub(slot, 1, at - 1) or slot
end

-- Up to *most* slots that are due, first come first served, taken out of the line. What others
-- wish for is left to them, and what must rest is put back to when it may be asked for.
local function take_due(most, wishes, quiet)
  local due, passed, any = {}, 0, next(quiet)
  while #due < most do
    local slots = call('ZRANGEBYSCORE', P .. 'ready', '-inf', (now + 1) * 1000 - 1,
      'LIMIT', passed, min(most - #due, PIECE))
    if #slots == 0 then break end
    local gone, rest = {}, {}
    for _, slot in ipairs(slots) do
      local pause = any and quiet[host_of(slot)]
      if pause then
        rest[#rest + 1], rest[#rest + 2] = pause * 1000, slot
      elseif wishes[slot] then
        passed = passed + 1
      else
        due[#due + 1], gone[#gone + 1] = slot, slot
      end
    end
    many('ZREM', P .. 'ready', gone)
    many('ZADD', P .. 'ready', rest)
  end
  return due
end

-- Divide *n* requests as evenly as the queues allow: those of slots[i], from the place *from* on,
-- become taken[i]. How many are left; those that have nothing more become dry[i].
local function share_out(slots, from, n, taken, dry)
  local open = {}
  for place = from, #slots do
    taken[place], dry[place] = {}, true
    open[#open + 1] = place
  end
  while n > 0 and #open > 0 do
    local share, more = max(1, floor(n / #open)), {}
    for _, place in ipairs(open) do
      local asked = min(share, n)
      local got = asked > 0 and pop(slots[place], asked) or {}
      local had = taken[place]
      if #had == 0 then
        taken[place] = got
      else
        for _, entry in ipairs(got) do had[#had + 1] = entry end
      end
      n = n - #got
      if #got == asked then more[#more + 1] = place end
    end
    open = more
  end
  for _, place in ipairs(open) do dry[place] = false end -- as far as is known
  return n
end

-- A request that crashed before, if its host can be had: slot, entry.
local function suspect(held)
  for _, id in ipairs(call('ZRANGE', P .. 'suspects', 0, 99)) do
    local slot, entry = parted(call('HGET', P .. 'd', id))
    local owner = call('HGET', P .. 'held', slot)
    if owner == W and held[slot]
      or not owner and due_of(call('HGET', P .. 'hosts', slot)) <= now then
      call('ZREM', P .. 'suspects', id)
      call('HDEL', P .. 'd', id)
      call('ZREM', P .. 'ready', slot)
      call('HSET', P .. 'w:' .. W, 'alone', id)
      return slot, entry, owner == W
    end
  end
end

-- Slots asked for by name that can be had now; the others are wished for. Their holders hear of it.
local function named(asked, quiet)
  local got, date = {}, nil
  if #asked == 0 then return got, date end
  local owners, hosts = fields(P .. 'held', asked), fields(P .. 'hosts', asked)
  local wish = {}
  for place, slot in ipairs(asked) do
    local due = max(due_of(hosts[place]), quiet[host_of(slot)] or 0)
    if owners[place] ~= W then
      if not owners[place] and due <= now then
        got[#got + 1] = slot
      else
        wish[#wish + 1], wish[#wish + 2] = now + 10000, slot
        if not owners[place] then date = min(date or due, due) end
      end
    end
  end
  many('ZREM', P .. 'ready', got)
  many('ZREM', P .. 'wishes', got)
  many('ZADD', P .. 'wishes', wish)
  return got, date
end

-- What is wished for by others: set, and list of those that this worker holds.
local function wished(own)
  local others, mine = {}, {}
  if call('EXISTS', P .. 'wishes') == 0 then return others, mine end
  call('ZREMRANGEBYSCORE', P .. 'wishes', '-inf', now)
  local slots = call('ZRANGE', P .. 'wishes', 0, -1)
  if #slots == 0 then return others, mine end
  local owners = fields(P .. 'held', slots)
  for place, slot in ipairs(slots) do
    if not own[slot] then others[slot] = true end
    if owners[place] == W then mine[#mine + 1] = slot end
  end
  return others, mine
end

-- How many other workers have nothing to do, and got nothing when they asked, lately.
local function hungry()
  if call('EXISTS', P .. 'hungry') == 0 then return 0 end
  call('ZREMRANGEBYSCORE', P .. 'hungry', '-inf', now)
  local all = call('ZCARD', P .. 'hungry')
  return call('ZSCORE', P .. 'hungry', W) and all - 1 or all
end

-- The answer for these slots: slot, state, robots, entries. Those that are new to this worker are
-- its own from here on.
local function granted(slots, taken, new)
  local answer, fresh, robots_of, owners = {}, {}, {}, {}
  for place, slot in ipairs(slots) do
    if new[place] then
      fresh[#fresh + 1], robots_of[#robots_of + 1] = slot, host_of(slot)
      owners[#owners + 1], owners[#owners + 2] = slot, W
    end
  end
  local hosts = #fresh > 0 and fields(P .. 'hosts', fresh) or {}
  local robots = #fresh > 0 and fields(P .. 'robots', robots_of) or {}
  if #owners > 0 and call('EXISTS', P .. 'held') == 0 then
    -- Redis keeps a small hash as a list, and looks for each field from its start: with hundreds of
    -- them for each page. One that had a long value stays what it becomes then.
    call('HSET', P .. 'held', '', string.rep('-', 1024))
    many('HSET', P .. 'held', owners)
    call('HDEL', P .. 'held', '')
  else
    many('HSET', P .. 'held', owners)
  end
  many('SADD', P .. 'h:' .. W, fresh)
  local at, n, leases = 0, 0, {}
  for place, slot in ipairs(slots) do
    local state, told = false, false
    if new[place] then
      at = at + 1
      state, told = hosts[at] and sub(hosts[at], string.find(hosts[at], '\n', 1, true) + 1), robots[at]
    end
    for _, entry in ipairs(taken[place]) do
      n = n + 1
      leases[#leases + 1] = match(entry, '^%d+')
      leases[#leases + 1] = slot .. '\n' .. entry
    end
    answer[place] = {slot, state, told, taken[place]}
  end
  many('HSET', P .. 'l:' .. W, leases)
  count('.leased', n)
  return answer
end
