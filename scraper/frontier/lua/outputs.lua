-- What a batch says of the outputs, counts and blobs; the same in a worker's commit and the leader's.

-- Reads ARGV from *at*; returns where it ends.
local function store_outputs(at)
  local function pairs_into(command, key)
    local n = 2 * ARGV[at]
    for place = at + 1, at + n, PIECE do
      call(command, key, unpack(ARGV, place, min(place + PIECE - 1, at + n)))
    end
    at = at + 1 + n
  end
  pairs_into('HSET', P .. 'positions')
  local applied = ARGV[at]
  at = at + 1
  if applied ~= '0' then
    local done = call('ZRANGEBYSCORE', P .. 'redo', '-inf', '(' .. applied)
    many('HDEL', P .. 'redo:records', done)
    call('ZREMRANGEBYSCORE', P .. 'redo', '-inf', '(' .. applied)
  end
  for _ = 1, ARGV[at] do -- a field that sorts as its number does, and the records
    call('ZADD', P .. 'redo', ARGV[at + 1], ARGV[at + 1])
    call('HSET', P .. 'redo:records', ARGV[at + 1], ARGV[at + 2])
    at = at + 2
  end
  at = at + 1
  for _ = 1, ARGV[at] do -- a stage, and keys that it claimed, packed
    call('SADD', P .. 'claims', ARGV[at + 1])
    call('RPUSH', P .. 'claims:' .. ARGV[at + 1], ARGV[at + 2])
    at = at + 2
  end
  at = at + 1
  for _ = 1, ARGV[at] do
    count(ARGV[at + 1], tonumber(ARGV[at + 2]))
    at = at + 2
  end
  return at + 1
end

-- Named blobs: name, blob, and '1' for what everybody must hear of.
local function store_state(at)
  local n, version = tonumber(ARGV[at]), nil
  for place = at + 1, at + 3 * n, 3 do
    local name, blob = ARGV[place], ARGV[place + 1]
    call('HSET', P .. 'state', name, blob)
    if ARGV[place + 2] == '1' then
      version = version or call('HINCRBY', P .. 'counters', '.news', 1)
      call('ZADD', P .. 'news', version, name)
    end
    if name == 'ending' then
      if blob == '' then call('HDEL', P .. 'meta', 'ended') else call('HSET', P .. 'meta', 'ended', 1) end
    end
  end
  return at + 1 + 3 * n
end

-- Blobs stored after *version*: name, blob, name, blob …
local function news_since(version)
  local names, told = call('ZRANGEBYSCORE', P .. 'news', '(' .. version, '+inf'), {}
  if #names == 0 then return told end
  local blobs = fields(P .. 'state', names)
  for place, name in ipairs(names) do
    told[#told + 1], told[#told + 2] = name, blobs[place]
  end
  return told
end
