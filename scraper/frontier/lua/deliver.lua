-- The leader's commit: how far the outputs are valid, and which entries may be let go.

local seq, number, version, upto = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7]
local wrong = foreign()
if wrong then return wrong end
local before = tonumber(call('HGET', P .. 'w:' .. W, 'delivered'))
if not before then return stranger(number) end
if before < seq - 1 or before > seq then return {'older', before, seq} end
local leader = call('GET', P .. 'leader')
if leader ~= W then return {'leader', leader} end
if before < seq then
  call('HDEL', P .. 'meta', 'none') -- the first write: allowed even where memory has run out
  if upto ~= '' then
    call('XTRIM', P .. 'items', 'MINID', upto)
    call('XDEL', P .. 'items', upto)
    call('HSET', P .. 'meta', 'last', upto)
  end
  call('HSET', P .. 'w:' .. W, 'delivered', seq)
  store_state(store_outputs(8))
end
return {'ok', call('HGETALL', P .. 'counters'), news_since(version)}
