-- Makes the requests that wrk sends, and prints the result as one line of JSON. Arguments: workload, seed,
-- number of connections, number of customers (0: requests name none), the order. `replay` repeats the keys that
-- environment.rs has created.

local REPLAYED_KEYS = 64
local RETRY_EVERY = 20
-- Up to this number of clients, percentiles are of what was measured. With more, latencies are so spread that wrk
-- takes long to list them, and percentiles are wrk's.
local RAW_CONNECTIONS = 16

local threads = {}
local kind, customers, head, tail
local recent = {}
sent = 0
drawn = 0
connections = 0

function setup(thread)
   table.insert(threads, thread)
end

function init(args)
   kind, connections, customers = args[1], tonumber(args[3]), tonumber(args[4])
   local body = args[5]
   math.randomseed(tonumber(args[2]))
   local host = "Host: " .. wrk.headers["Host"] .. "\r\n"
   if kind == "nothing" then
      head = "GET / HTTP/1.1\r\n" .. host .. "\r\n"
      return
   elseif kind == "list" then
      head = "GET /api/v1/orders HTTP/1.1\r\n" .. host .. "\r\n"
      return
   end
   head = "POST /api/v1/orders HTTP/1.1\r\n" .. host .. "Content-Type: application/json\r\n"
      .. "Content-Length: " .. #body .. "\r\nIdempotency-Key: "
   tail = "\r\n\r\n" .. body
end

-- A random UUID, as clients draw it.
local function new_key()
   local random = math.random
   drawn = drawn + 1
   return string.format("%08x-%04x-4%03x-8%03x-%06x%06x", random(0, 0xffffffff), random(0, 0xffff),
      random(0, 0xfff), random(0, 0xfff), random(0, 0xffffff), random(0, 0xffffff))
end

-- One of the last 1000 keys whose requests have a response.
local function retried_key()
   local key = recent[(drawn - 2 * connections - math.random(0, 999)) % 4096]
   return key or new_key()
end

function request()
   sent = sent + 1
   if kind == "nothing" or kind == "list" then
      return head
   elseif kind == "replay" then
      return head .. string.format("00000000-0000-4000-8000-%012x", sent % REPLAYED_KEYS) .. tail
   elseif kind == "mix" and sent % RETRY_EVERY == 0 then
      return head .. retried_key() .. tail
   end
   local key = new_key()
   if kind == "mix" then
      recent[drawn % 4096] = key
   end
   if customers > 0 then
      key = key .. "\r\nX-User-Id: customer-" .. math.random(0, customers - 1)
   end
   return head .. key .. tail
end

-- The latencies that were measured, in ascending order, with their counts. wrk has added those of requests that it
-- would have sent meanwhile: for each latency of n, n - interval and so on, as long as that is above the interval.
local function measured(summary, latency)
   if connections > RAW_CONNECTIONS then
      return { { latency:percentile(50), summary.requests * 0.9 }, { latency:percentile(99), summary.requests * 0.1 } }
   end
   local added, raw = {}, {}
   local interval = math.floor(summary.duration / math.floor(summary.requests / connections))
   for i = #latency, 1, -1 do
      local time, count = latency(i)
      count = count - (added[time] or 0)
      if count > 0 then
         table.insert(raw, 1, { time, count })
         if time >= 2 * interval then
            for earlier = time - interval, interval + 1, -interval do
               added[earlier] = (added[earlier] or 0) + count
            end
         end
      end
   end
   return raw
end

-- Nagle's algorithm holds a segment back until the client's delayed acknowledgement, after 40 ms.
local function is_stall(time)
   return connections <= RAW_CONNECTIONS and time >= 38000 and time <= 45000
end

local function any()
   return true
end

local function percentile(raw, share, counts)
   local all, seen = 0, 0
   for _, it in ipairs(raw) do
      all = all + (counts(it[1]) and it[2] or 0)
   end
   for _, it in ipairs(raw) do
      seen = seen + (counts(it[1]) and it[2] or 0)
      if seen >= all * share then
         return it[1], all
      end
   end
   return 0, all
end

function done(summary, latency, requests)
   local keys = 0
   connections = threads[1]:get("connections")
   for _, thread in ipairs(threads) do
      keys = keys + thread:get("drawn")
   end
   local errors = summary.errors
   local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   local raw = measured(summary, latency)
   local p99, all = percentile(raw, 0.99, any)
   local p99_no_stalls, without = percentile(raw, 0.99, function(time) return not is_stall(time) end)
   io.write(string.format(
      '{"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"p99_no_stalls":%d,"stalls":%d,'
         .. '"errors":%d,"keys":%d}\n',
      summary.requests, summary.duration, percentile(raw, 0.5, any), p99, p99_no_stalls,
      all - without, failures, keys))
end
