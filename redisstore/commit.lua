-- Applies a commit atomically. KEYS: heads, then groups. Returns the name of the first head that
-- differs, or "".
local at = 0
local function arg() at = at + 1; return ARGV[at] end
local heads = KEYS[1]

for _ = 1, tonumber(arg()) do
  local name, exists, value = arg(), arg(), arg()
  local is = redis.call('HGET', heads, name)
  if exists == '0' then
    if is then return name end
  elseif not is or string.sub(is, 16) ~= value then
    return name
  end
end

-- If memory is used up, the first write fails, before anything has changed.
local t = redis.call('TIME')
local now = string.format('%015d', t[1] * 1000 + math.floor(t[2] / 1000))
local gone = {}
for _ = 1, tonumber(arg()) do
  local name, exists, value = arg(), arg(), arg()
  if exists == '1' then
    redis.call('HSET', heads, name, now .. value)
  else
    gone[#gone + 1] = name
  end
end
for _ = 1, tonumber(arg()) do
  local group, part, value = tonumber(arg()), arg(), arg()
  redis.call('HSET', KEYS[group], part, value)
end
for _ = 1, tonumber(arg()) do
  redis.call('UNLINK', KEYS[tonumber(arg())])
end
for _, name in ipairs(gone) do
  redis.call('HDEL', heads, name)
end

-- Every commit extends the life of all keys in use, also of those that it does not change.
local expire = arg()
if expire ~= '0' then
  redis.call('PEXPIRE', heads, expire)
  for i = 2, #KEYS do redis.call('PEXPIRE', KEYS[i], expire) end
end
return ''
