-- The table of {{collection}}. The function is of the library's schema, lib/exactly-once-stores/schema.sql.
SELECT create_resource_table('{{collection}}', '{{resource}}');
