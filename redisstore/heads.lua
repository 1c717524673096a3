-- Returns the server's time in ms, then the names and values of all heads.
local t = redis.call('TIME')
local all = redis.call('HGETALL', KEYS[1])
table.insert(all, 1, string.format('%015d', t[1] * 1000 + math.floor(t[2] / 1000)))
return all
