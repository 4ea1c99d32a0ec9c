-- Failed checks are few among those that passed, and are looked for by time.
CREATE INDEX check_result_failed ON check_result (seq, n) WHERE ok = 0;
