-- A sign of life, and a look at who shows none.

local lease, patience, number, about = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]

local wrong = foreign()
if wrong then return wrong end
if call('EXISTS', P .. 'w:' .. W) == 0 then return stranger(number) end
call('HDEL', P .. 'meta', 'none') -- the first write: allowed even where memory has run out
call('ZREM', P .. 'workers', W)
call('ZADD', P .. 'workers', now + lease, W)
local named = {}
for place = 8, #ARGV do named[#named + 1] = ARGV[place] end
local reaped = reap(named, lease, patience)
call('HSET', P .. 'w:' .. W, 'about', about, 'sign', now)
return {'ok', call('ZCARD', P .. 'workers'), call('GET', P .. 'leader'), reaped}
