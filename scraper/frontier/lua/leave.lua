-- A worker leaves in good order: its leases go back uncharged, but for what may not repeat and was
-- sent.

local wrong = foreign()
if wrong then return wrong end
call('HDEL', P .. 'meta', 'none') -- the first write: allowed even where memory has run out
local ended = {}
if call('EXISTS', P .. 'w:' .. W) == 1 then ended = remove(W, 0) end
return {'ok', ended, tonumber(call('HGET', P .. 'counters', '.pending') or 0)}
