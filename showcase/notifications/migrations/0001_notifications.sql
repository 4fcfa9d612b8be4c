-- A notification is a resource like an order: one per customer and key, which is the id of the payment's event.
SELECT create_resource_table('notifications', 'notification');
