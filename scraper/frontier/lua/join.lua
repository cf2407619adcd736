-- A worker joins the run, which is created if there is none. KEYS[1] is the job's prefix here, for
-- which run it is, it says itself.

local run, lease, patience, told = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]

local current = call('GET', P .. 'run')
local fresh = not current
P = P .. (current or run) .. ':'
if fresh then
  call('HSET', P .. 'meta', 'schema', ARGV[3], 'run', run, 'created', now)
  call('HSET', P .. 'counters', '.sign', now)
  call('SET', KEYS[1] .. 'run', run)
end
local wrong = foreign()
if wrong then return wrong end

local named = {}
for place = 8, #ARGV do named[#named + 1] = ARGV[place] end
local reaped = reap(named, lease, patience)
if call('ZCARD', P .. 'workers') == 0 then -- nobody is here who set the dates: they may be nonsense
  local late = now + CLAMP
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'delayed', '(' .. late, '+inf')) do
    call('ZADD', P .. 'delayed', late, id)
  end
  for _, slot in ipairs(call('ZRANGEBYSCORE', P .. 'ready', '(' .. late * 1000, '+inf')) do
    call('ZADD', P .. 'ready', late * 1000, slot)
  end
end

local number = call('HGET', P .. 'w:' .. W, 'number') -- it may have joined, and not heard of it
if not number then
  number = call('HINCRBY', P .. 'counters', '.joined', 1)
  call('HSET', P .. 'w:' .. W, 'number', number, 'seq', 0, 'delivered', 0, 'started', now,
    'told', '0 0', 'about', told)
end
call('ZADD', P .. 'workers', now + lease, W)
return {'ok', current or run, tonumber(number), call('ZCARD', P .. 'workers'),
  call('GET', P .. 'leader'), reaped}
