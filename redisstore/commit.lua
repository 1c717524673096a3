-- Applies a commit as a whole, or changes nothing. Returns the name of the first head that
-- differs, or "".
--
-- KEYS: heads; the groups that parts are put in; for each group that is dropped, a key next to it
-- that never exists; the groups that are dropped; further keys whose life is extended.
local heads = KEYS[1]
local at = 0
local function arg() at = at + 1; return ARGV[at] end
local written, dropped, expire, longer = tonumber(arg()), tonumber(arg()), arg(), arg()
local lastDrop = 1 + written + 2 * dropped

local same, sameRaw = '', false -- a head that exists
for _ = 1, tonumber(arg()) do
  local name, exists, value = arg(), arg(), arg()
  local is = redis.call('HGET', heads, name)
  if exists == '0' then
    if is then return name end
  elseif not is or string.sub(is, 11) ~= value then
    return name
  else
    same, sameRaw = name, is
  end
end
if same == '' then same, sameRaw = 'meta', redis.call('HGET', heads, 'meta') end
if not sameRaw then same, sameRaw = '', '' end -- nothing reads this field
local stamp, failed = stampNow()
if not stamp then return failed end

-- A script is not rolled back: if a command fails, what the earlier ones have changed stays. So
-- each command is tried on each key first, in ways that change nothing: the user may lack a right,
-- or a key may have another type. The server checks only before the first write whether memory is
-- used up, and only if that command may use more, so HSET is the first one.
local refused
local function try(command, ...)
  if refused then return end
  local reply = redis.pcall(command, ...)
  if type(reply) == 'table' and reply.err then
    refused = {err = reply.err .. ' in ' .. command} -- not all servers name it
  end
end
try('HSET', heads, same, sameRaw)
try('HDEL', heads, '')
for i = 2, 1 + written do
  try('HDEL', KEYS[i], '')
  try('HSET', KEYS[i], '', '')
  try('HDEL', KEYS[i], '')
end
for i = 2 + written, 1 + written + dropped do try('UNLINK', KEYS[i]) end
-- The life of keys is extended, also of those that this commit does not change.
if expire ~= '0' then
  try('PEXPIRE', heads, expire)
  for i = 2, #KEYS do try('PEXPIRE', KEYS[i], longer) end
end
if refused then return refused end

-- From here on, nothing fails.
local gone = {}
for _ = 1, tonumber(arg()) do
  local name, exists, value = arg(), arg(), arg()
  if exists == '1' then
    redis.call('HSET', heads, name, stamp .. value)
  else
    gone[#gone + 1] = name
  end
end
for _ = 1, tonumber(arg()) do
  local key, part, value = KEYS[tonumber(arg())], arg(), arg()
  redis.call('HSET', key, part, value)
end
for i = 2 + written + dropped, lastDrop do redis.call('UNLINK', KEYS[i]) end
for _, name in ipairs(gone) do redis.call('HDEL', heads, name) end

if expire ~= '0' then -- for keys that did not exist before
  redis.call('PEXPIRE', heads, expire)
  for i = 2, 1 + written do redis.call('PEXPIRE', KEYS[i], longer) end
end
return ''
