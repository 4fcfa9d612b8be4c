//! The component that Spin serves: requests about orders.

use spin_adapter::{ErrorCode, Guest, Request, Response};

use crate::Order;

struct Component;

spin_adapter::export!(Component);

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        spin_adapter::serve::<Order>(request).await
    }
}
