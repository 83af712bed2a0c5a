-- Upload sets are under the policies of the entity's table, as attachments are: who may not see the entity neither sees,
-- completes nor gives up what is being attached to it.
ALTER POLICY own_tenant ON attachments.upload_set
    USING (tenant_id = attachments.tenant() AND (attachments.find_entity(entity_type, entity_id)).is_there)
    WITH CHECK (tenant_id = attachments.tenant());
