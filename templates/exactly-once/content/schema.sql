{%- assign many = project-name | downcase | replace: "-", "_" | replace: " ", "_" -%}
{%- assign path = many | replace: "_", "-" -%}
{%- assign one = many -%}{%- assign last = many | slice: -1 -%}{%- assign length = many | size | minus: 1 -%}
{%- if last == "s" -%}{%- assign one = many | slice: 0, length -%}{%- endif -%}
{%- assign words = one | replace: "_", " " -%}
-- The table of {{many}}, in Postgres. The function is of the library's schema, lib/exactly-once-stores/schema.sql.
SELECT create_resource_table('{{many}}', '{{one}}');
