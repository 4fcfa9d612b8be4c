-- The table of {{collection}}. The function is created by the core's migrations.
SELECT create_resource_table('{{collection}}', '{{resource}}');
