-- A job has no current run any more. KEYS[1] is the job's prefix; who still works on it is told.

local run = call('GET', P .. 'run')
if not run then return {'ok', 0} end
call('DEL', P .. 'run') -- the first write: allowed even where memory has run out
call('HSET', P .. 'shelf', run, ARGV[5])
call('HSET', P .. run .. ':meta', 'closed', ARGV[4])
return {'ok', 1}
