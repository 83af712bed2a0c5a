ALTER POLICY own_tenant ON attachments.upload_set
    USING (tenant_id = attachments.tenant()) WITH CHECK (tenant_id = attachments.tenant());
