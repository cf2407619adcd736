-- Become the leader, or stay it; or (ARGV[5] is '0') be it no longer.

local number = tonumber(ARGV[4])
local wrong = foreign()
if wrong then return wrong end
if call('EXISTS', P .. 'w:' .. W) == 0 then return stranger(number) end
local leader = call('GET', P .. 'leader')
if ARGV[5] == '0' then
  if leader == W then call('DEL', P .. 'leader') end
  return {'ok', 0}
end
if leader and leader ~= W then return {'ok', 0} end
if not leader then call('SET', P .. 'leader', W) end
return {'ok', 1}
