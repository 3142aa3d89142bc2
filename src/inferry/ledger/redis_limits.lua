-- The bank of policy/lease_bank.py, for many hosts: the same rules, by Redis' own clock. See redis_limits.py.
--
-- KEYS[1]: set of hosts by the time until which they count as present. KEYS[2...]: buckets.
-- ARGV[1], MessagePack: {host, host_ttl_ms, number, {slot_ms, kept_ms, permit_ttl_ms, period_idle_ms, ahead_share},
-- charges, wishes, forgets}. Reply, MessagePack: {now_ms, hosts, answers}.

local WINDOW, PERMITS, DAY = 0, 1, 2
local NOW = -1
local PERMIT_RETRY_MS = 1000

local input = cmsgpack.unpack(ARGV[1])
local host, host_ttl_ms, number, times = input[1], input[2], input[3], input[4]
local slot_ms, kept_ms, permit_ttl_ms, period_idle_ms, ahead_share = unpack(times)
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_slot = math.floor(now_ms / slot_ms)
local cutoff = math.floor((now_ms - kept_ms) / slot_ms)

local function text(units) return string.format('%.0f', units) end

local function lease_units(least, need, want, left)
  if left <= 0 or left < least then return 0 end
  return math.min(left, math.max(need, math.min(want, math.floor(left / ahead_share))))
end

-- Windows: a hash of slot -> units; t the total, c the newest slot that was dropped.

local function slid_total(key)
  local kept = redis.call('HMGET', key, 't', 'c')
  local total = tonumber(kept[1]) or 0
  if tonumber(kept[2]) == cutoff then return total end
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local slot = tonumber(all[i])
    if slot and slot <= cutoff then
      total = total - tonumber(all[i + 1])
      redis.call('HDEL', key, all[i])
    end
  end
  redis.call('HSET', key, 't', text(total), 'c', text(cutoff))
  return total
end

local function add(key, slot, units)
  local count = tonumber(redis.call('HGET', key, text(slot))) or 0
  units = math.max(units, -count)
  if units ~= 0 and slot > cutoff then
    redis.call('HINCRBY', key, text(slot), text(units))
    redis.call('HINCRBY', key, 't', text(units))
  end
  redis.call('PEXPIRE', key, kept_ms + 2 * slot_ms)
end

local function slots_of(key)
  local slots, counts = {}, {}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local slot = tonumber(all[i])
    if slot and tonumber(all[i + 1]) > 0 then
      slots[#slots + 1] = slot
      counts[slot] = tonumber(all[i + 1])
    end
  end
  table.sort(slots)
  return slots, counts
end

local function gone_in_ms(slot) return math.max(0, slot * slot_ms + kept_ms - now_ms) end

local function fits_in_ms(key, total, total_max)
  local slots, counts = slots_of(key)
  for _, slot in ipairs(slots) do
    total = total - counts[slot]
    if total <= total_max then return math.max(1, gone_in_ms(slot)) end
  end
  return kept_ms
end

local function from_window(key, limit, least, most, need, want)
  local total = slid_total(key)
  local units = lease_units(least, need, want, limit - total)
  add(key, now_slot, units)
  total = total + units
  local retry_ms = 0
  if units < need then retry_ms = fits_in_ms(key, total, limit - most) end
  -- The newest slot is this one, or was at most `kept_ms` ago: not worth a second walk over all of them.
  local reset_ms = 0
  if units > 0 then reset_ms = gone_in_ms(now_slot)
  elseif total > 0 then
    local slots = slots_of(key)
    reset_ms = gone_in_ms(slots[#slots])
  end
  return {units, now_slot, limit - total, retry_ms, reset_ms, -1}
end

-- Permits: a hash of holder -> "count until_ms number". A late message, overtaken by a newer one, is not believed.

local function held_by_others(key, holder)
  local sum, last_number = 0, -1
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local count, until_ms, said = string.match(all[i + 1], '(%d+) (%d+) (%d+)')
    if all[i] == holder then last_number = tonumber(said)
    elseif tonumber(until_ms) <= now_ms then redis.call('HDEL', key, all[i])
    else sum = sum + tonumber(count) end
  end
  return sum, last_number
end

local function from_permits(key, limit, least, need, want, holder, held)
  local others, last_number = held_by_others(key, holder)
  if number < last_number then return {0, 0, 0, PERMIT_RETRY_MS, 0, -1} end
  local units = lease_units(least, need, want, limit - others - held)
  held = held + units
  -- Kept with 0 until it ends, for its number.
  redis.call('HSET', key, holder, text(held) .. ' ' .. text(now_ms + permit_ttl_ms) .. ' ' .. text(number))
  redis.call('PEXPIRE', key, permit_ttl_ms)
  return {units, 0, limit - others - held, units < need and PERMIT_RETRY_MS or 0, 0, -1}
end

-- Calendars: p the day or month, u the units used in it. Algorithms as in core/leases.py.

local function month_of(day)
  local shifted = day + 719468
  local era = math.floor(shifted / 146097)
  local doe = shifted - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  return 12 * (era * 400 + yoe) + math.floor((5 * doy + 2) / 153) + 2
end

local function first_day(month)
  local year = math.floor((month - 2) / 12)
  local from_march = (month - 2) % 12
  local era = math.floor(year / 400)
  local yoe = year % 400
  local doy = math.floor((153 * from_march + 2) / 5)
  return era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy - 719468
end

local function from_period(key, kind, limit, least, need, want, begun, used_before)
  local day = math.floor(now_ms / 86400000)
  local period = kind == DAY and day or month_of(day)
  local ends_in_ms = (kind == DAY and day + 1 or first_day(period + 1)) * 86400000 - now_ms
  local kept = redis.call('HMGET', key, 'p', 'u')
  local used = tonumber(kept[2])
  if tonumber(kept[1]) ~= period then
    if begun ~= period then return {0, period, 0, 0, 0, period} end
    used = used_before
  end
  local units = lease_units(least, need, want, limit - used)
  used = used + units
  redis.call('HSET', key, 'p', text(period), 'u', text(used))
  redis.call('PEXPIRE', key, period_idle_ms)
  return {units, period, limit - used, units < need and ends_in_ms or 0, ends_in_ms, -1}
end

-- The exchange.

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms)
redis.call('ZADD', KEYS[1], now_ms + host_ttl_ms, host)
redis.call('PEXPIRE', KEYS[1], host_ttl_ms)

for _, each in ipairs(input[5]) do
  local key, kind, slot, units = KEYS[each[1]], each[2], each[3], each[4]
  if kind == WINDOW then
    slid_total(key)
    add(key, slot == NOW and now_slot or slot, units)
  elseif kind ~= PERMITS then
    local period = tonumber(redis.call('HGET', key, 'p'))
    if period and (slot == NOW or slot == period) then
      local used = tonumber(redis.call('HGET', key, 'u'))
      redis.call('HSET', key, 'u', text(math.max(0, used + units)))
    end
  end
end

local answers = {}
for i, each in ipairs(input[6]) do
  local key, kind, limit, holder = KEYS[each[1]], each[2], each[3], each[4]
  local least, most, need, want, held = each[5], each[6], each[7], each[8], each[9]
  if kind == WINDOW then answers[i] = from_window(key, limit, least, most, need, want)
  elseif kind == PERMITS then answers[i] = from_permits(key, limit, least, need, want, holder, held)
  else answers[i] = from_period(key, kind, limit, least, need, want, each[10], each[11]) end
end

for _, each in ipairs(input[7]) do redis.call('HDEL', KEYS[each[1]], each[2]) end

return cmsgpack.pack({now_ms, redis.call('ZRANGE', KEYS[1], 0, -1), answers})
