-- The beginning of both scripts: who answers, and its time.

-- Returns the value of a line of INFO.
local function valueOf(info, name)
  local _, last = string.find(info, name, 1, true)
  if not last then return '' end
  return string.sub(info, last + 1, (string.find(info, '\r', last, true) or 0) - 1)
end

-- Returns a stamp: the time in ms, in 6 bytes, and 4 bytes for the server whose clock that is. If
-- asked, it also returns the server's identity: 16 digits that differ after the server has started
-- again, after another one has taken over, and after this one has been a replica meanwhile. From a
-- replica, which may be behind, it returns nil and an error.
local function stampNow(withIdentity)
  local replication = redis.call('INFO', 'replication')
  local role = valueOf(replication, 'role:')
  if role == 'slave' or role == 'replica' then
    return nil, redis.error_reply('READONLY this server is a replica')
  end
  local run = valueOf(redis.call('INFO', 'server'), 'run_id:')
  local identity
  if withIdentity then
    -- The second identity of replication is that of the master that this server had before.
    local before = valueOf(replication, 'master_replid2:') .. valueOf(replication, 'second_repl_offset:')
    identity = string.sub(redis.sha1hex(run .. before), 1, 16)
  end
  local t = redis.call('TIME')
  local ms = t[1] * 1000 + math.floor(t[2] / 1000)
  return struct.pack('>I6I4', ms, tonumber(string.sub(run, 1, 8), 16) or 0), identity
end

