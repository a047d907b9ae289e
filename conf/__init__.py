"""Every setting's value as YAML, one folder per group; types and limits stand in ptychofno.config.schema."""
