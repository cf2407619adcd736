-- Store the blobs and keys with which a crawl begins, unless a worker has; the blobs stored then.

local number = tonumber(ARGV[4])
local wrong = foreign()
if wrong then return wrong end
if call('EXISTS', P .. 'w:' .. W) == 0 then return stranger(number) end
if call('HSETNX', P .. 'meta', 'begun', W) == 1 then store_state(store_outputs(5)) end
return {'ok', call('HGETALL', P .. 'state')}
