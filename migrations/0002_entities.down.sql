DROP FUNCTION attachments.find_entity(text, text);
DROP TYPE attachments.found_entity;
DROP TABLE attachments.entity_type;
