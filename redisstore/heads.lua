-- Returns the server's time in ms, then the names and values of the heads in ARGV, or of all.
local t = redis.call('TIME')
local all
if #ARGV == 0 then
  all = redis.call('HGETALL', KEYS[1])
else
  all = {}
  for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV))) do
    if value then
      all[#all + 1] = ARGV[i]
      all[#all + 1] = value
    end
  end
end
table.insert(all, 1, string.format('%015d', t[1] * 1000 + math.floor(t[2] / 1000)))
return all
