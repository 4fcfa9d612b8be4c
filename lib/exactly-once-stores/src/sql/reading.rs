//! Resources and lists as customers read them: one statement each, so that its rows are of one snapshot.

use exactly_once::ports::{Page, PageRequest};
use exactly_once::{Customer, KeyScope, ListState, ResourceId};

use super::{Parameter, Row, Statement, Statements, Unreadable, stored};

impl Statements {
    /// Looks for a customer's resource; read the row with [`found`](super::found).
    pub fn find(&self, customer: &Customer, id: ResourceId) -> Statement<'_> {
        Statement {
            sql: &self.find,
            parameters: vec![Parameter::Text(id.to_string()), Parameter::Text(customer.as_str().to_owned())],
        }
    }

    /// Looks for the resource of a scope; read the row with [`found_in_history`](super::found_in_history).
    pub fn find_by_key(&self, scope: &KeyScope) -> Statement<'_> {
        Statement {
            sql: &self.find_by_key,
            parameters: vec![
                Parameter::Text(scope.customer.as_str().to_owned()),
                Parameter::Text(scope.key.as_str().to_owned()),
            ],
        }
    }

    /// Reads the resources of a page, and one more, which says that there are more; read the rows with [`page`]. Long
    /// documents make it fewer.
    pub fn page(&self, customer: &Customer, page: PageRequest) -> Statement<'_> {
        let id = |id: Option<ResourceId>| Parameter::NullableText(id.map(|id| id.to_string()));
        Statement {
            sql: &self.page,
            parameters: vec![
                Parameter::Text(customer.as_str().to_owned()),
                id(page.after),
                Parameter::Int64(i64::try_from(page.limit).unwrap_or(i64::MAX).saturating_add(1)),
                id(page.from),
            ],
        }
    }
}

/// The page in the rows of [`Statements::page`]; `None` when its cursor is none of the customer's resources.
///
/// # Errors
/// [`Unreadable`] when they are not as the statement returns them.
pub fn page(rows: &[Row], limit: usize) -> Result<Option<Page>, Unreadable> {
    let first = rows.first().ok_or(Unreadable)?;
    if first.boolean("cursor_known") != Some(true) {
        return Ok(None);
    }
    let state = first.bytes("state").ok_or(Unreadable)?;
    let state = ListState::from_bytes(&state).ok_or(Unreadable)?;
    let mut resources =
        rows.iter().filter(|row| row.text("id").is_some()).map(stored).collect::<Result<Vec<_>, _>>()?;
    let is_cut = !resources.is_empty() && resources.len() < rows.len();
    let more = is_cut || resources.len() > limit;
    resources.truncate(limit);
    Ok(Some(Page { state, resources, more }))
}
