//! What a resource is: one table of its members. Requests are validated by it, documents are stored and read by it, and
//! representations (and, in [`crate::schema`], JSON Schemas) are made from it. A document is a JSON value that the
//! library keeps: no step drops a member that it does not know.
//!
//! ```
//! use exactly_once::members::{created_at, id, integer, required, text};
//! use exactly_once::{Collection, Resource};
//! use serde_json::json;
//!
//! const COLLECTION: Collection = Collection { name: "rooms", one: "room", path: "/rooms" };
//! const ROOMS: Resource = Resource::new(
//!     COLLECTION,
//!     &[id("roomId"), required("name", text(1, 100)), required("seats", integer(1, 50)), created_at("createdAt")],
//! );
//! assert!(ROOMS.validate(&json!({"name": "Ada", "seats": 4})).is_ok());
//! let violations = ROOMS.validate(&json!({"name": "", "chairs": 4})).unwrap_err();
//! let pointers: Vec<&str> = violations.iter().map(|violation| violation.pointer.as_str()).collect();
//! assert_eq!(pointers, ["/chairs", "/name", "/seats"]);
//! ```

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::json::{pointer, to_json};
use crate::resource::{Collection, Documentation, ResourceId};

/// A kind of resource, such as an order: its names, its members and its rules.
#[derive(Clone, Copy)]
pub struct Resource {
    /// The names of the collection.
    pub collection: Collection,
    /// Where its API is described, if it is.
    pub documentation: Option<Documentation>,
    /// What its schema says of it besides its members.
    pub(crate) about: &'static str,
    pub(crate) members: &'static [Member],
    rules: fn(&Map<String, Value>, &mut Check),
    event: &'static [Member],
}

impl Resource {
    /// A resource of these members. The representation has them in this order.
    pub const fn new(collection: Collection, members: &'static [Member]) -> Self {
        Self { collection, documentation: None, about: "", members, rules: |_, _| {}, event: &[] }
    }

    /// Adds where the API is described.
    #[must_use]
    pub const fn documented(mut self, documentation: Documentation) -> Self {
        self.documentation = Some(documentation);
        self
    }

    /// Adds rules about several members, and what the schema says of them. The function sees members that may be
    /// missing or wrong: it evaluates those that [`Check::accepts`].
    #[must_use]
    pub const fn with_rules(mut self, about: &'static str, rules: fn(&Map<String, Value>, &mut Check)) -> Self {
        (self.about, self.rules) = (about, rules);
        self
    }

    /// Adds members that events have and representations do not.
    #[must_use]
    pub const fn with_event_members(mut self, members: &'static [Member]) -> Self {
        self.event = members;
        self
    }

    /// Validates the body of a request, and returns it as it is stored.
    ///
    /// # Errors
    /// Every violation; those of an object's own members come before those of the objects inside.
    pub fn validate(&self, body: &Value) -> Result<Value, Vec<Violation>> {
        let mut check = Check::default();
        check.object("", self.members, body);
        if let Value::Object(members) = body {
            (self.rules)(members, &mut check);
        }
        match self.as_stored(body) {
            Some(document) if check.violations.is_empty() => Ok(document),
            _ => Err(check.violations),
        }
    }

    /// The body of a request as it is stored, by the rules of all releases: limits change, and unknown members may be
    /// known to another release. They are kept. A document that is stored is returned as it is.
    ///
    /// `None` when a member that a representation needs is missing or of another type.
    pub fn as_stored(&self, body: &Value) -> Option<Value> {
        as_stored(self.members, body)
    }

    /// The representation that every response about the resource repeats byte for byte: one JSON object. Members that
    /// this release does not know follow those that it knows.
    ///
    /// It depends on id and document only, which is why a replay needs neither the first response's bytes nor a
    /// clock. Changing it changes what replays of old resources say: a new shape needs a new version of the API.
    ///
    /// `None` when the document lacks what a representation needs.
    pub fn represent(&self, id: ResourceId, document: &Value) -> Option<String> {
        let mut text = String::with_capacity(256);
        write_object(&mut text, self.members, id, document)?;
        Some(text)
    }

    /// What readers of the feed get about the resource: the representation, and members for events only.
    pub fn event_data(&self, id: ResourceId, document: &Value) -> Option<String> {
        let mut text = self.represent(id, document)?;
        let members = document.as_object()?;
        text.pop();
        for member in self.event {
            text.push(',');
            member.write(&mut text, id, members)?;
        }
        text.push('}');
        Some(text)
    }
}

/// A member of a resource, or of an object inside.
#[derive(Clone, Copy)]
pub struct Member {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) source: Source,
}

/// Where a member's value comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// The client sends it.
    Required(Kind),
    /// The client may send it. Null and an absent member are the same: neither is stored, and both are shown as null.
    Nullable(Kind),
    /// The client may send it. Null and an absent member are the same; neither is stored or shown.
    Optional(Kind),
    /// The id of the resource.
    Id,
    /// When the resource was requested.
    CreatedAt,
    /// Always this text.
    Constant(&'static str),
    /// The function computes it from the document. Not stored.
    Computed(Kind, fn(&Map<String, Value>) -> Option<Value>),
}

/// The values that a member may have.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A string; see [`text`].
    Text {
        /// The fewest Unicode scalar values.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A string with a rule of its own; see [`code`].
    Code {
        /// The name of its schema.
        schema: &'static str,
        /// What the violation says.
        rule: &'static str,
        /// Whether a string is one.
        accepts: fn(&str) -> bool,
    },
    /// An integer; see [`integer`].
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// An amount of money; see [`money`].
    Money {
        /// The least, in minor units.
        min: i64,
        /// The greatest, in minor units.
        max: i64,
    },
    /// A number that is stored as the function returns it; see [`number`].
    Number {
        /// What the violation says.
        rule: &'static str,
        /// The number to store. It returns what it has returned before unchanged.
        read: fn(f64) -> Option<Value>,
    },
    /// Objects; see [`list`].
    List {
        /// The fewest.
        min: usize,
        /// The most.
        max: usize,
        /// The members of each.
        of: &'static [Member],
    },
}

/// A string of `min` to `max` Unicode scalar values without U+0000, which Postgres cannot hold in text.
pub const fn text(min: usize, max: usize) -> Kind {
    Kind::Text { min, max }
}

/// A string that the function accepts, such as a code of some list. The rule says what it must be, and `schema` names
/// its JSON Schema among the components of the API's description.
pub const fn code(schema: &'static str, rule: &'static str, accepts: fn(&str) -> bool) -> Kind {
    Kind::Code { schema, rule, accepts }
}

/// An integer that is written without a fraction and an exponent.
pub const fn integer(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

/// An amount of money in minor units of its currency, written as an [`integer`].
pub const fn money(min: i64, max: i64) -> Kind {
    Kind::Money { min, max }
}

/// A number with a rule of its own. The function returns what is stored: one value for all spellings of a number.
pub const fn number(rule: &'static str, read: fn(f64) -> Option<Value>) -> Kind {
    Kind::Number { rule, read }
}

/// An array of `min` to `max` objects with these members.
pub const fn list(min: usize, max: usize, of: &'static [Member]) -> Kind {
    Kind::List { min, max, of }
}

/// A member that every request has.
pub const fn required(name: &'static str, kind: Kind) -> Member {
    Member::new(name, Source::Required(kind))
}

/// A member that a request may have, shown as null without it. Only for members that the first release had: responses
/// about earlier resources would change. Later ones are [`optional`].
pub const fn nullable(name: &'static str, kind: Kind) -> Member {
    Member::new(name, Source::Nullable(kind))
}

/// A member that a request may have, and that is not shown without it.
pub const fn optional(name: &'static str, kind: Kind) -> Member {
    Member::new(name, Source::Optional(kind))
}

/// The id of the resource.
pub const fn id(name: &'static str) -> Member {
    Member::new(name, Source::Id)
}

/// When the resource was requested.
pub const fn created_at(name: &'static str) -> Member {
    Member::new(name, Source::CreatedAt)
}

/// A text that all resources share.
pub const fn constant(name: &'static str, value: &'static str) -> Member {
    Member::new(name, Source::Constant(value))
}

/// What the function computes from the document; the document is not readable where it returns nothing.
pub const fn computed(name: &'static str, kind: Kind, value: fn(&Map<String, Value>) -> Option<Value>) -> Member {
    Member::new(name, Source::Computed(kind, value))
}

impl Member {
    const fn new(name: &'static str, source: Source) -> Self {
        let about = "";
        Self { name, about, source }
    }

    /// Adds what the schema says of it besides its rule.
    #[must_use]
    pub const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// What a client may send, and whether it must.
    pub(crate) fn sent(&self) -> Option<(&Kind, bool)> {
        match &self.source {
            Source::Required(kind) => Some((kind, true)),
            Source::Nullable(kind) | Source::Optional(kind) => Some((kind, false)),
            Source::Id | Source::CreatedAt | Source::Constant(_) | Source::Computed(..) => None,
        }
    }

    /// Writes name and value; nothing for an optional member that is absent.
    fn write(&self, text: &mut String, id: ResourceId, members: &Map<String, Value>) -> Option<()> {
        let value = members.get(self.name).filter(|value| !value.is_null());
        if let (Source::Optional(_), None) = (&self.source, value) {
            return Some(());
        }
        write_name(text, self.name);
        match (&self.source, value) {
            (Source::Required(kind) | Source::Nullable(kind) | Source::Optional(kind), Some(value)) => {
                kind.write(text, id, value)?;
            }
            (Source::Required(_), None) => return None,
            (Source::Nullable(_) | Source::Optional(_), None) => text.push_str("null"),
            (Source::Id, _) => text.push_str(&to_json(&id.to_string())),
            (Source::CreatedAt, _) => text.push_str(&to_json(&id.created_at())),
            (Source::Constant(value), _) => text.push_str(&to_json(value)),
            (Source::Computed(_, value), _) => text.push_str(&to_json(&value(members)?)),
        }
        Some(())
    }
}

impl Kind {
    /// What a violation says.
    fn rule(&self) -> Cow<'static, str> {
        match self {
            Self::Text { min: 0, max } => {
                format!("must be a string of at most {max} characters, none of them U+0000").into()
            }
            Self::Text { min, max } => {
                format!("must be a string of {min} to {max} characters, none of them U+0000").into()
            }
            Self::Code { rule, .. } | Self::Number { rule, .. } => (*rule).into(),
            Self::Integer { min, max } => format!("must be an integer from {min} to {max}").into(),
            Self::Money { min, max } => format!("must be an integer of minor units, {min} to {max}").into(),
            Self::List { min, max, .. } => format!("must be an array of {min} to {max} items").into(),
        }
    }

    /// Whether a value obeys the rule; this does not check the items of a list.
    fn accepts(&self, value: &Value) -> bool {
        let is = match self {
            Self::Text { min, max } => {
                value.as_str().map(|text| !text.contains('\0') && (*min..=*max).contains(&text.chars().count()))
            }
            Self::Code { accepts, .. } => value.as_str().map(accepts),
            Self::Integer { min, max } | Self::Money { min, max } => {
                value.as_i64().map(|number| (*min..=*max).contains(&number))
            }
            Self::Number { read, .. } => value.as_f64().map(|number| read(number).is_some()),
            Self::List { min, max, .. } => value.as_array().map(|items| (*min..=*max).contains(&items.len())),
        };
        is.unwrap_or_default()
    }

    /// A value as it is stored; `None` when it is of another type.
    fn as_stored(&self, value: &Value) -> Option<Value> {
        match self {
            Self::Text { .. } | Self::Code { .. } => value.is_string().then(|| value.clone()),
            Self::Integer { .. } | Self::Money { .. } => value.as_i64().map(Value::from),
            Self::Number { read, .. } => read(value.as_f64()?),
            Self::List { of, .. } => {
                let items = value.as_array()?.iter();
                items.map(|item| as_stored(of, item)).collect()
            }
        }
    }

    fn write(&self, text: &mut String, id: ResourceId, value: &Value) -> Option<()> {
        match self {
            Self::Text { .. } | Self::Code { .. } => text.push_str(&to_json(&value.as_str()?)),
            Self::Integer { .. } | Self::Money { .. } => {
                text.push_str(&value.as_i64()?.to_string());
            }
            Self::Number { .. } => text.push_str(&to_json(value.as_number()?)),
            Self::List { of, .. } => {
                text.push('[');
                for (index, item) in value.as_array()?.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    write_object(text, of, id, item)?;
                }
                text.push(']');
            }
        }
        Some(())
    }
}

fn as_stored(table: &[Member], value: &Value) -> Option<Value> {
    let sent = value.as_object()?;
    let is_input = |source: &Source| matches!(source, Source::Required(_) | Source::Nullable(_) | Source::Optional(_));
    let mut members = Map::new();
    // Unknown members are kept.
    for (name, value) in sent {
        if !table.iter().any(|member| member.name == name && is_input(&member.source)) {
            members.insert(name.clone(), value.clone());
        }
    }
    for member in table {
        let present = sent.get(member.name).filter(|value| !value.is_null());
        let stored = match (&member.source, present) {
            (Source::Required(kind) | Source::Nullable(kind) | Source::Optional(kind), Some(value)) => {
                kind.as_stored(value)?
            }
            (Source::Required(_), None) => return None,
            // A member that is absent is not stored: then a release that adds one stores the same document as before. A
            // computed member that the client sends is an unknown one.
            _ => continue,
        };
        members.insert(member.name.to_owned(), stored);
    }
    Some(Value::Object(members))
}

fn write_object(text: &mut String, table: &[Member], id: ResourceId, value: &Value) -> Option<()> {
    let members = value.as_object()?;
    text.push('{');
    for member in table {
        separate(text);
        member.write(text, id, members)?;
    }
    for (name, value) in members {
        if table.iter().all(|member| member.name != name) {
            separate(text);
            write_name(text, name);
            text.push_str(&to_json(value));
        }
    }
    if text.ends_with(',') {
        text.pop();
    }
    text.push('}');
    Some(())
}

/// An absent optional member leaves the comma of the member before it.
fn separate(text: &mut String) {
    if !text.ends_with(['{', ',']) {
        text.push(',');
    }
}

fn write_name(text: &mut String, name: &str) {
    text.push_str(&to_json(&name));
    text.push(':');
}

/// A member that makes a document invalid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The member, as a JSON Pointer (RFC 6901) into the request's body.
    pub pointer: String,
    /// The rule that it breaks.
    pub detail: Cow<'static, str>,
}

impl Violation {
    /// The member at the pointer breaks a rule.
    pub fn new(pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Collects violations while a document is checked.
#[derive(Default)]
pub struct Check {
    violations: Vec<Violation>,
}

impl Check {
    /// The member at the pointer breaks a rule.
    pub fn violated(&mut self, pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) {
        self.violations.push(Violation::new(pointer, detail));
    }

    /// Whether neither the member at the pointer nor one inside it breaks a rule so far.
    pub fn accepts(&self, pointer: &str) -> bool {
        let is_inside = |other: &str| {
            let rest = other.strip_prefix(pointer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !self.violations.iter().any(|found| is_inside(&found.pointer))
    }

    fn object(&mut self, at: &str, table: &[Member], value: &Value) {
        let Value::Object(members) = value else {
            self.violated(at, object_rule(table));
            return;
        };
        let is_known = |name: &str| {
            let member = table.iter().find(|member| member.name == name);
            member.is_some_and(|member| member.sent().is_some())
        };
        for name in members.keys().filter(|name| !is_known(name)) {
            self.violated(pointer(at, name), "is not a member this API knows");
        }
        let sent = || table.iter().filter_map(|member| Some((member, member.sent()?)));
        let is_list = |kind: &Kind| matches!(kind, Kind::List { .. });
        for (member, (kind, is_required)) in sent().filter(|(_, (kind, _))| !is_list(kind)) {
            self.member(&pointer(at, member.name), kind, is_required, members.get(member.name));
        }
        for (member, (kind, is_required)) in sent().filter(|(_, (kind, _))| is_list(kind)) {
            let (here, value) = (pointer(at, member.name), members.get(member.name));
            self.member(&here, kind, is_required, value);
            // A list of the wrong length may be long: only its length is reported.
            if let (Kind::List { of, .. }, Some(value)) = (kind, value)
                && kind.accepts(value)
            {
                let items = value.as_array().into_iter().flatten();
                for (index, item) in items.enumerate() {
                    self.object(&format!("{here}/{index}"), of, item);
                }
            }
        }
    }

    fn member(&mut self, at: &str, kind: &Kind, is_required: bool, value: Option<&Value>) {
        match value {
            None if is_required => self.violated(at, "is required"),
            None => {}
            Some(Value::Null) if !is_required => {}
            Some(value) if kind.accepts(value) => {}
            Some(_) if is_required => self.violated(at, kind.rule()),
            Some(_) => self.violated(at, format!("{}, or null", kind.rule())),
        }
    }
}

/// What an object must be: its required members.
fn object_rule(table: &[Member]) -> String {
    let required = table.iter().filter(|member| member.sent().is_some_and(|(_, required)| required));
    let names: Vec<&str> = required.map(|member| member.name).collect();
    match names.as_slice() {
        [] => "must be an object".to_owned(),
        [one] => format!("must be an object with {one}"),
        [others @ .., last] => format!("must be an object with {} and {last}", others.join(", ")),
    }
}
