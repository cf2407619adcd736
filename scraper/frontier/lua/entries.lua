-- What lies in the output behind an entry: id, data, id, data … up to so many bytes, at least one.

local number, after, most = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local wrong = foreign()
if wrong then return wrong end
if call('EXISTS', P .. 'w:' .. W) == 0 then return stranger(number) end
local leader = call('GET', P .. 'leader')
if leader ~= W then return {'leader', leader} end
local found, bytes, from = {}, 0, after == '' and '-' or '(' .. after
while bytes < most do
  local some = call('XRANGE', P .. 'items', from, '+', 'COUNT', 8)
  if #some == 0 then break end
  for _, entry in ipairs(some) do
    local size = #entry[2][2]
    if #found > 0 and bytes + size > most then return {'ok', found} end
    found[#found + 1], found[#found + 2] = entry[1], entry[2][2]
    bytes = bytes + size
    from = '(' .. entry[1]
  end
end
return {'ok', found}
