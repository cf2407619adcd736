-- What every script begins with: whose keys, what time it is, whether this worker may do anything.
--
-- KEYS[1]: the prefix of the run's keys. ARGV: [1] the time in ms, '' for the server's own;
-- [2] the worker; [3] the schema version that the client speaks; what follows is the script's.
--
-- Every script may be sent twice, for its answer may be lost: doing it again changes nothing.

local P = KEYS[1]
local W = ARGV[2]
local call, match, sub = redis.call, string.match, string.sub
local floor, min, max = math.floor, math.min, math.max

local SUSPECT = 2     -- crashes from which on a request runs alone
local DEAD = 5        -- crashes that make it dead
local CLAMP = 3600000 -- ms that a stored date may lie ahead once nobody is there who set it
local PIECE = 4000    -- arguments that Lua's stack takes at once, with room to spare

local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end

-- Whether there is a run that this client understands: nil, or what to answer instead.
local function foreign()
  local meta = call('HMGET', P .. 'meta', 'schema', 'closed')
  if not meta[1] then return {'gone'} end
  if meta[1] ~= ARGV[3] then return {'schema', meta[1]} end
  if meta[2] then return {'closed', meta[2]} end
end

-- Why this worker is not known: given up, or known only to a later state than this one.
local function stranger(number)
  local joined = tonumber(call('HGET', P .. 'counters', '.joined') or 0)
  if joined < number then return {'older', joined, number} end
  return {'unknown'}
end

-- A command for a list of any length; what it answers to the last piece.
local function many(command, key, list)
  local answer
  for at = 1, #list, PIECE do
    answer = call(command, key, unpack(list, at, min(at + PIECE - 1, #list)))
  end
  return answer
end

-- What a command answers for each of a list of any length that is not empty.
local function each(command, key, list)
  if #list <= PIECE then return call(command, key, unpack(list)) end
  local found = {}
  for at = 1, #list, PIECE do
    local some = call(command, key, unpack(list, at, min(at + PIECE - 1, #list)))
    for place = 1, #some do found[at + place - 1] = some[place] end
  end
  return found
end

-- Fields of a hash, likewise.
local function fields(key, list)
  return each('HMGET', key, list)
end

local function count(name, number)
  if number ~= 0 then call('HINCRBY', P .. 'counters', name, number) end
end
