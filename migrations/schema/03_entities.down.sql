-- What plan_lookups() wrote.
DROP FUNCTION attachments.find_planned(text, text), attachments.lock_planned(text, text);
