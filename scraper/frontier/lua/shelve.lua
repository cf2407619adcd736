-- A run ([4]) is the job's current one no longer. KEYS[1] is the job's prefix. Who still works on it
-- is told why ([5]); of one that is over ('') they may see the end.

local run = ARGV[4]
if call('GET', P .. 'run') ~= run then return {'ok', 0} end
call('DEL', P .. 'run') -- the first write: allowed even where memory has run out
call('HSET', P .. 'shelf', run, ARGV[6])
if ARGV[5] ~= '' then call('HSET', P .. run .. ':meta', 'closed', ARGV[5]) end
return {'ok', 1}
