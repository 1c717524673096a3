-- The beginning of both scripts: who answers, and its time.

local function fieldOf(info, name)
  local _, last = string.find(info, name, 1, true)
  return last and string.match(info, '^[^\r\n]*', last + 1) or ''
end

-- Returns a number in so many bytes, the highest first.
local function bytesOf(n, size)
  local list = {}
  for i = size, 1, -1 do
    list[i] = n % 256
    n = math.floor(n / 256)
  end
  return string.char(unpack(list))
end

-- Returns a stamp, and the server's identity: 8 bytes that differ after the server has started
-- again, after another one has taken over, and after this one has been a replica meanwhile. A
-- stamp is the time in ms, in 6 bytes, and 4 bytes for the server whose clock that is. From a
-- replica, which may be behind, it returns nil and an error.
local function stampNow()
  local replication = redis.call('INFO', 'replication')
  local role = fieldOf(replication, 'role:')
  if role == 'slave' or role == 'replica' then
    return nil, redis.error_reply('READONLY this server is a replica')
  end
  local run = fieldOf(redis.call('INFO', 'server'), 'run_id:')
  local clock = redis.sha1hex(run)
  local whole = redis.sha1hex(run .. fieldOf(replication, 'master_replid2:') .. fieldOf(replication, 'second_repl_offset:'))
  local t = redis.call('TIME')
  return bytesOf(t[1] * 1000 + math.floor(t[2] / 1000), 6) .. bytesOf(tonumber(string.sub(clock, 1, 8), 16), 4),
    bytesOf(tonumber(string.sub(whole, 1, 8), 16), 4) .. bytesOf(tonumber(string.sub(whole, 9, 16), 16), 4)
end

