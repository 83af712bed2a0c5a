DROP FUNCTION attachments_api.metrics();
DROP VIEW attachments.metrics;
