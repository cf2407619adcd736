-- Requests that end here and not by a verdict, and workers that are no more.

-- Keep a failure: "ms id depth attempt start reason\ndetail\npayload", for `scrape failures`.
local function bury(id, depth, attempt, start, reason, data)
  local head = string.format('%.0f %s %s %s %s %s\n\n', now, id, depth, attempt, start, reason)
  call('RPUSH', P .. 'dead', head .. data)
  count('reason:' .. reason, 1)
end

-- Give back what *worker* had leased, each with *crashes* more; returns what that ended:
-- reason, payload, reason, payload …
local function give_back(worker, crashes)
  local leases, ended = call('HGETALL', P .. 'l:' .. worker), {}
  local sending = {}
  for _, id in ipairs(call('SMEMBERS', P .. 'x:' .. worker)) do sending[id] = true end
  local order, values = {}, {}
  for at = 1, #leases, 2 do
    order[#order + 1], values[leases[at]] = leases[at], leases[at + 1]
  end
  table.sort(order, function(a, b) return tonumber(a) > tonumber(b) end)
  for _, id in ipairs(order) do -- the last first: the first shall be in front
    local slot, entry = parted(values[id])
    local _, depth, attempt, start, crashed, priority = header(entry)
    local data, total = payload(entry), crashed + crashes
    local reason = sending[id] and 'interrupted' or total >= DEAD and 'crashed'
    if reason then
      bury(id, depth, attempt, start, reason, data)
      ended[#ended + 1], ended[#ended + 2] = reason, data
    else
      local head = string.format('%s %s %s %s %d %s\n', id, depth, attempt, start, total, priority)
      enter(slot, head .. data, 0)
    end
  end
  count('.leased', -#order)
  count('.pending', -#ended / 2)
  return ended
end

-- Let go of the hosts that *worker* holds; they may be asked for as before it took them.
local function let_go(worker)
  local slots = call('SMEMBERS', P .. 'h:' .. worker)
  many('HDEL', P .. 'held', slots)
  for _, slot in ipairs(slots) do
    if has_work(slot) then feed(slot) end
  end
end

-- The end of a worker, whatever became of it. Its leases crashed once more, or (0) did not.
local function remove(worker, crashes)
  local ended = give_back(worker, crashes)
  let_go(worker)
  call('ZREM', P .. 'workers', worker)
  call('ZREM', P .. 'hungry', worker)
  if call('GET', P .. 'leader') == worker then call('DEL', P .. 'leader') end
  local keys = {}
  for _, kind in ipairs({'l:', 'h:', 't:', 'x:', 'w:'}) do keys[#keys + 1] = P .. kind .. worker end
  call('DEL', unpack(keys))
  line_up()
  return ended
end

-- Take workers for dead: those *named* (their machine says so), and those that showed no sign of
-- life for too long. While nobody could show one (the server was away), nobody's time ran.
-- Returns worker, what that ended, worker, …
local function reap(named, lease, patience)
  local reaped = {}
  local function take(worker)
    if worker ~= W and call('EXISTS', P .. 'w:' .. worker) == 1 then
      reaped[#reaped + 1] = worker
      reaped[#reaped + 1] = remove(worker, 1)
      count('.crashes', 1)
    end
  end
  for _, worker in ipairs(named) do take(worker) end
  local quiet = now - tonumber(call('HGET', P .. 'counters', '.sign') or now)
  call('HSET', P .. 'counters', '.sign', now)
  if quiet > lease / 2 and quiet < lease + patience then
    local all = call('ZRANGE', P .. 'workers', 0, -1, 'WITHSCORES')
    for at = 1, #all, 2 do call('ZADD', P .. 'workers', all[at + 1] + quiet, all[at]) end
  end
  for _, worker in ipairs(call('ZRANGEBYSCORE', P .. 'workers', '-inf', now)) do take(worker) end
  return reaped
end
