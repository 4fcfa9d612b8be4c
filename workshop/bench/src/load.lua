-- Makes the requests that wrk sends, and prints the result as one line of JSON. Arguments: workload, seed,
-- number of connections, number of customers (0: requests name none), the order. `replay` repeats the keys that
-- environment.rs has created.

local REPLAYED_KEYS = 64
local RETRY_EVERY = 20

local threads = {}
local kind, connections, customers, head, tail
local recent = {}
sent = 0
drawn = 0

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

function done(summary, latency, requests)
   local keys = 0
   for _, thread in ipairs(threads) do
      keys = keys + thread:get("drawn")
   end
   local errors = summary.errors
   local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format(
      '{"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"errors":%d,"keys":%d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failures, keys))
end
