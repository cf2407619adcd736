-- One worker's commit: everything that a batch says, and the leases that it asks for.

local ROBOTS = 50000 -- hosts of which robots.txt is kept
local BEHIND = 10000 -- pages that may lie in the output; then nothing is handed out until less do
local HUNGRY = 3000 -- ms for which a worker that got nothing is waited for; it asks every second

local seq, version, number = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])

local wrong = foreign()
if wrong then return wrong end
local me = call('HMGET', P .. 'w:' .. W, 'seq', 'told', 'alone')
if not me[1] then return stranger(number) end
local before = tonumber(me[1])
if before < seq - 1 or before > seq then return {'older', before, seq} end

local meta = call('HMGET', P .. 'meta', 'ended', 'generation')
local news = news_since(version)

-- The answer, with what every answer tells. *hosts*: what is handed out.
local function answer(kind, told, refused, hosts, dates, mine, quiet)
  local paused = {}
  for host, date in pairs(quiet) do
    paused[#paused + 1], paused[#paused + 2] = host, date - now
  end
  return {'ok', kind, told, refused, hosts, dates, call('ZCARD', P .. 'workers'),
    call('GET', P .. 'leader'), call('HGETALL', P .. 'counters'), news, mine, paused, hungry()}
end

-- When there may be more: ms from now of the line, of what is dated and of suspects.
local function dates_of(idle, alone)
  local dates = {}
  if alone then return dates end
  local first = call('ZRANGE', P .. 'ready', 0, 0, 'WITHSCORES')
  if first[2] then dates[1] = max(floor(first[2] / 1000) - now, 0) end
  first = call('ZRANGE', P .. 'delayed', 0, 0, 'WITHSCORES')
  if first[2] then dates[#dates + 1] = max(first[2] - now, 0) end
  if idle then
    for _, id in ipairs(call('ZRANGE', P .. 'suspects', 0, 99)) do
      local slot = parted(call('HGET', P .. 'd', id))
      if call('HEXISTS', P .. 'held', slot) == 0 then
        dates[#dates + 1] = max(due_of(call('HGET', P .. 'hosts', slot)) - now, 0)
      end
    end
  end
  return dates
end

if before == seq then -- it was done; its answer got lost. All that this worker has is told.
  local hosts, leases, at = {}, {}, {}
  for _, slot in ipairs(call('SMEMBERS', P .. 'h:' .. W)) do
    hosts[#hosts + 1], leases[#leases + 1], at[slot] = slot, {}, #hosts + 1
  end
  for _, value in ipairs(call('HVALS', P .. 'l:' .. W)) do
    local slot, entry = parted(value)
    if at[slot] then table.insert(leases[at[slot]], entry) end
  end
  local told = {}
  for place, slot in ipairs(hosts) do
    local host = call('HGET', P .. 'hosts', slot)
    local state = host and sub(host, string.find(host, '\n', 1, true) + 1)
    told[place] = {slot, state, call('HGET', P .. 'robots', host_of(slot)), leases[place]}
  end
  local numbers = {}
  for word in string.gmatch(me[2] or '', '%d+') do numbers[#numbers + 1] = tonumber(word) end
  local refused = {}
  for place = 3, #numbers do refused[#refused + 1] = numbers[place] end
  local _, mine = wished({})
  return answer(1, {numbers[1] or 0, numbers[2] or 0}, refused, told,
    dates_of(call('HLEN', P .. 'l:' .. W) == 0, me[3]), mine, pauses())
end

if meta[1] then -- a limit was reached: what comes after the cut does not exist
  return answer(2, {0, 0}, {}, {}, {}, {}, {})
end

-- The first write decides whether a server that is out of memory lets the others happen: this one
-- is refused there, and then nothing was done.
call('HSET', P .. 'w:' .. W, 'seq', seq)

local at = 7
local function list()
  local n = tonumber(ARGV[at])
  local found = {}
  for place = 1, n do found[place] = ARGV[at + place] end
  at = at + 1 + n
  return found
end

-- What was settled ------------------------------------------------------------------------------

local settled = list()
if #settled > 0 then
  many('HDEL', P .. 'l:' .. W, settled)
  count('.leased', -#settled)
end
local again = 0
many('SREM', P .. 'x:' .. W, list())
for _ = 1, ARGV[at] do -- again: slot, ms from now (0: at once), entry
  local delay = tonumber(ARGV[at + 2])
  enter(ARGV[at + 1], ARGV[at + 3], delay > 0 and now + delay or 0)
  again = again + 1
  at = at + 3
end
at = at + 1
local stamp = string.format('%.0f ', now)
for _, kind in ipairs({'dead', 'rejects'}) do
  for place = at + 1, at + ARGV[at] do call('RPUSH', P .. kind, stamp .. ARGV[place]) end
  at = at + 1 + ARGV[at]
end

-- What was found --------------------------------------------------------------------------------

local generation = tonumber(meta[2] or 0)
local admitted, seen, duplicates, refused, nth = 0, 0, 0, {}, 0

-- Fingerprints lie in buckets by their last decimal digits, four in generation 0, five in
-- generation 1 … Redis keeps up to 512 numbers as a plain array; when a generation's buckets have
-- 256 on average, the next begins, with ten times as many. What is old stays where it is.
local function new(fingerprint)
  local digits = fingerprint
  if #digits < 9 then digits = '00000000' .. match(digits, '%d+') end
  for older = 0, generation - 1 do
    if call('SISMEMBER', P .. 's:' .. sub(digits, -4 - older), fingerprint) == 1 then return false end
  end
  if call('SADD', P .. 's:' .. sub(digits, -4 - generation), fingerprint) == 0 then return false end
  seen = seen + 1
  return true
end

for _ = 1, ARGV[at] do -- groups: slot, priority, kind, n; then n requests
  local slot, priority, kind, n = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  local queued, filled = {}, 0
  at = at + 4
  for _ = 1, n do
    local entry, fresh = ARGV[at + 1], true
    if kind == 'any' then -- not asked whether it was seen
      at = at + 1
    else
      fresh = new(ARGV[at + 2])
      at = at + 2
      if kind == 'own' then -- a redirect into its own chain
        fresh = true
      elseif kind == 'redirect' then
        nth = nth + 1
        if not fresh then
          refused[#refused + 1] = nth
          local _, depth, attempt, start = header(entry)
          bury(0, depth, attempt, start, 'redirect_duplicate', payload(entry))
        end
      end
    end
    if fresh then
      filled = filled + 1
      queued[filled] = entry
    else
      duplicates = duplicates + 1
    end
  end
  admitted = admitted + filled
  if filled > 0 then
    local length = many('RPUSH', queue_of(slot, priority), queued)
    if priority ~= '0' then banded(slot, priority) end
    if length == filled then feed(slot) end -- else it had work, and is where it should be
  end
end
at = at + 1
if seen > 0 then
  count('.seen', seen)
  local filled = call('HINCRBY', P .. 'counters', '.seen:' .. generation, seen)
  if generation < 3 and filled >= 256 * 10 ^ (4 + generation) then
    call('HSET', P .. 'meta', 'generation', generation + 1)
  end
end
count('.pending', admitted - #settled + again)

-- What is given back ----------------------------------------------------------------------------

many('SADD', P .. 'x:' .. W, list())
local unused = list()
if #unused > 0 then
  for place, value in ipairs(fields(P .. 'l:' .. W, unused)) do
    local slot, entry = parted(value)
    enter(slot, entry, 0)
  end
  many('HDEL', P .. 'l:' .. W, unused)
  count('.leased', -#unused)
end

local slots, hosts = {}, {}
for _ = 1, ARGV[at] do -- slot, ms from now when it is due, state
  local slot, due = ARGV[at + 1], now + ARGV[at + 2]
  slots[#slots + 1] = slot
  hosts[#hosts + 1] = slot
  hosts[#hosts + 1] = string.format('%.0f\n', due) .. ARGV[at + 3]
  if has_work(slot) then stand(slot, due) end
  at = at + 3
end
at = at + 1
many('HSET', P .. 'hosts', hosts)
many('HDEL', P .. 'held', slots)
many('SREM', P .. 'h:' .. W, slots)
many('SREM', P .. 't:' .. W, slots)
for _ = 1, ARGV[at] do -- host, ms for which its other slots shall rest
  call('ZADD', P .. 'quiet', 'GT', now + ARGV[at + 2], ARGV[at + 1])
  at = at + 2
end
at = at + 1
local robots = list() -- host, what was learnt of its robots.txt
many('HSET', P .. 'robots', robots)
if #robots > 0 and call('HLEN', P .. 'robots') > ROBOTS then
  many('HDEL', P .. 'robots', call('HRANDFIELD', P .. 'robots', 1 + #robots / 2))
end
if me[3] and call('HLEN', P .. 'l:' .. W) == 0 then
  call('HDEL', P .. 'w:' .. W, 'alone')
  me[3] = false
end

-- What is kept for others -----------------------------------------------------------------------

at = store_outputs(at)
at = store_state(at)
for place = at + 1, at + ARGV[at] do call('XADD', P .. 'items', '*', 'd', ARGV[place]) end
at = at + 1 + ARGV[at]

-- What is handed out ----------------------------------------------------------------------------

wake()
line_up()
local n, may_be_alone, most = tonumber(ARGV[at]), ARGV[at + 1] == '1', tonumber(ARGV[at + 2])
at = at + 3
local asked_for, asked_by_name = list(), list()
local own = {}
for _, slot in ipairs(asked_by_name) do own[slot] = true end
local others, mine = wished(own)
local quiet = pauses()
if most > 0 and n > 0 then
  local done = call('HMGET', P .. 'counters', 'pages', '.leased')
  n = min(n, most - (done[1] or 0) - (done[2] or 0))
end
if n > 0 and call('XLEN', P .. 'items') > BEHIND then n = 0 end
local asked = n
local given, taken, is_new = {}, {}, {}
-- Of hosts that are free, who has something to do leaves all to those that have nothing.
local modest = hungry() > 0 and call('HLEN', P .. 'l:' .. W) > 0
local got, date = named(asked_by_name, quiet)
for _, slot in ipairs(got) do
  given[#given + 1], is_new[#is_new + 1] = slot, true
end
if n > 0 and not me[3] then
  local working = {}
  if #asked_for > 0 then
    local todo = each('SMISMEMBER', P .. 't:' .. W, asked_for)
    for place, slot in ipairs(asked_for) do
      if todo[place] == 1 then working[#working + 1] = slot end
    end
  end
  -- Held hosts get half where there are more of both than requests to give: neither starves.
  local dry, from = {}, 1
  local function more_due(most)
    return modest and {} or take_due(most, others, quiet)
  end
  local due = more_due(n - min(#working, floor((n + 1) / 2)) - #got)
  for place = 1, min(#working, n - #due - #got) do
    given[#given + 1], is_new[#is_new + 1] = working[place], false
  end
  local left, served = n, false
  while not served do
    for _, slot in ipairs(due) do given[#given + 1], is_new[#is_new + 1] = slot, true end
    left = share_out(given, from, left, taken, dry)
    from = #given + 1
    due = left > 0 and more_due(left) or {} -- held ones may have had less
    served = #due == 0
  end
  local more, done = {}, {}
  for place, slot in ipairs(given) do
    if not dry[place] then
      more[#more + 1] = slot
    elseif not is_new[place] then
      done[#done + 1] = slot
    end
  end
  many('SADD', P .. 't:' .. W, more)
  many('SREM', P .. 't:' .. W, done)
  if left == n and may_be_alone and call('HLEN', P .. 'l:' .. W) == 0 then
    local held = {}
    for _, slot in ipairs(asked_for) do held[slot] = true end
    for _, slot in ipairs(got) do held[slot] = true end
    local slot, entry, owned = suspect(held)
    if slot then
      local place = #given + 1
      for had, name in ipairs(given) do
        if name == slot then place = had end
      end
      if place > #given then given[place], is_new[place] = slot, not owned end
      taken[place] = {entry}
      if has_work(slot) then call('SADD', P .. 't:' .. W, slot) end
      me[3] = true
    end
  end
else
  for place, slot in ipairs(given) do
    taken[place] = {}
    if has_work(slot) then call('SADD', P .. 't:' .. W, slot) end
  end
end
local handed = granted(given, taken, is_new)

call('HSET', P .. 'w:' .. W, 'told',
  admitted .. ' ' .. duplicates .. ' ' .. table.concat(refused, ' '))
count('.commits', 1)
local idle = call('HLEN', P .. 'l:' .. W) == 0
if not idle then
  call('ZREM', P .. 'hungry', W)
elseif asked > 0 then
  call('ZADD', P .. 'hungry', now + HUNGRY, W)
end
local dates = dates_of(idle, me[3])
if date then dates[#dates + 1] = max(date - now, 0) end
return answer(0, {admitted, duplicates}, refused, handed, dates, mine, quiet)
