-- Returns the stamp of now and the server's identity, as one string; then the names and values of
-- the heads in ARGV, or of all.
local stamp, identity = stampNow(true)
if not stamp then return identity end -- an error
local all
if #ARGV == 0 then
  all = redis.call('HGETALL', KEYS[1])
else
  all = {}
  for first = 1, #ARGV, 1000 do -- unpack has a limit
    local last = math.min(first + 999, #ARGV)
    for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, first, last))) do
      if value then
        all[#all + 1] = ARGV[first + i - 1]
        all[#all + 1] = value
      end
    end
  end
end
table.insert(all, 1, stamp .. identity)
return all
