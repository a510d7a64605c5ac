-- Alerts are in one partition, and no part of it is ever too old as a whole: rows expire one by one.
ALTER TABLE alerts_stored MODIFY SETTING ttl_only_drop_parts = 0;
