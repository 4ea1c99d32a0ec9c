-- description: delays and cancellations by day, origin and carrier, with the carrier's name
-- partition: same as inputs
-- key: day, origin, carrier
-- time: day
-- check: not_null(day, origin, carrier, flights)
-- check: between(share_late, 0, 1)
-- check: between(share_cancelled, 0, 0.5, tolerate=0.3, severity=warn)
--
-- The day is the local one: time_hour is UTC, and 11 % of the departures have another date there.
SELECT
  make_date(year, month, day) AS day,
  origin,
  carrier,
  any_value(airlines.name) AS carrier_name,
  count(*) AS flights,
  count(*) FILTER (WHERE dep_time IS NULL) AS cancelled,
  count(*) FILTER (WHERE dep_delay >= 15) AS late,
  count(*) FILTER (WHERE dep_delay >= 15) / nullif(count(dep_delay), 0) AS share_late, -- of those that left
  count(*) FILTER (WHERE dep_time IS NULL) / count(*) AS share_cancelled,
  avg(dep_delay) AS mean_delay
FROM flights
LEFT JOIN airlines USING (carrier)
GROUP BY ALL
ORDER BY day, origin, carrier
