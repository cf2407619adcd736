-- A job has no current run any more, if that is the one that was looked at ([6]): another worker may
-- have begun the next one meanwhile. KEYS[1] is the job's prefix. Who still works on it is told; but
-- of one that is over ([4] is '') they may see the end.

local run = call('GET', P .. 'run')
if run ~= ARGV[6] then return {'ok', 0} end
call('DEL', P .. 'run') -- the first write: allowed even where memory has run out
call('HSET', P .. 'shelf', run, ARGV[5])
if ARGV[4] ~= '' then call('HSET', P .. run .. ':meta', 'closed', ARGV[4]) end
return {'ok', 1}
