//! One event.

use base64ct::{Base64, Encoding};
use exactly_once::customer::Customer;
use serde_json::{Value, json};

/// An event with the attributes that this project's events have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudEvent {
    /// `id`: with `source`, what a consumer tells repeated deliveries by.
    pub id: String,
    /// `source`
    pub source: String,
    /// `type`
    pub kind: String,
    /// `time`
    pub time: Option<String>,
    /// `partitionkey`: events that have the same one are delivered in order.
    pub partition_key: Option<String>,
    /// `data`
    pub data: Value,
}

/// Why a document is not a CloudEvent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnEvent(pub String);

impl std::fmt::Display for NotAnEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAnEvent {}

impl CloudEvent {
    /// Reads an event in structured mode (CloudEvents JSON format 1.0). Attributes that this type does not have are
    /// ignored.
    ///
    /// # Errors
    /// [`NotAnEvent`] when a required attribute is missing, one is of another type, or the data are not JSON.
    pub fn from_json(bytes: &[u8]) -> Result<Self, NotAnEvent> {
        let Value::Object(mut members) = parse(bytes)? else {
            return Err(NotAnEvent("it is not a JSON object".into()));
        };
        let data = match (members.remove("data"), members.remove("data_base64")) {
            (data, None) => data.unwrap_or_default(),
            (None, Some(Value::String(encoded))) => {
                let bytes = Base64::decode_vec(&encoded);
                parse(&bytes.map_err(|_| NotAnEvent("data_base64 is not Base64".into()))?)?
            }
            _ => {
                return Err(NotAnEvent("it has data and data_base64, or data_base64 is not a string".into()));
            }
        };
        let attribute = |name: &str| match members.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(NotAnEvent(format!("{name} is not a string"))),
        };
        Self::of(attribute, data)
    }

    /// Reads an event in binary mode (CloudEvents HTTP binding 1.0, section 3.1): each attribute is a header, and the
    /// body is the data.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn from_headers(header: impl Fn(&str) -> Option<String>, body: &[u8]) -> Result<Self, NotAnEvent> {
        Self::of(|name| Ok(header(&format!("ce-{name}"))), parse(body)?)
    }

    fn of(
        mut attribute: impl FnMut(&str) -> Result<Option<String>, NotAnEvent>,
        data: Value,
    ) -> Result<Self, NotAnEvent> {
        let mut required = |name: &str| {
            let text = attribute(name)?.filter(|text| !text.is_empty());
            text.ok_or_else(|| NotAnEvent(format!("{name} is missing")))
        };
        if required("specversion")? != "1.0" {
            return Err(NotAnEvent("specversion is not \"1.0\"".into()));
        }
        Ok(Self {
            id: required("id")?,
            source: required("source")?,
            kind: required("type")?,
            time: attribute("time")?,
            partition_key: attribute("partitionkey")?,
            data,
        })
    }

    /// The event in the JSON format.
    pub fn to_json(&self) -> String {
        let mut event = json!({
            "specversion": "1.0",
            "type": self.kind,
            "source": self.source,
            "id": self.id,
        });
        let optional = [("time", &self.time), ("partitionkey", &self.partition_key)];
        for (name, value) in optional {
            if let (Some(value), Value::Object(members)) = (value, &mut event) {
                members.insert(name.to_owned(), value.as_str().into());
            }
        }
        if let Value::Object(members) = &mut event {
            members.insert("datacontenttype".to_owned(), "application/json".into());
            members.insert("data".to_owned(), self.data.clone());
        }
        event.to_string()
    }

    /// The customer that the event is about: its partition key.
    pub fn customer(&self) -> Option<Customer> {
        let name = self.partition_key.as_deref()?;
        let anonymous = Customer::anonymous();
        match name == anonymous.as_str() {
            true => Some(anonymous),
            false => Customer::named(name),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Value, NotAnEvent> {
    exactly_once::json::parse(bytes).map_err(|error| NotAnEvent(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_is_written() {
        let event = CloudEvent {
            id: "1".into(),
            source: "/orders".into(),
            kind: "created".into(),
            time: Some("2026-11-22T00:29:50.527Z".into()),
            partition_key: Some("user-1".into()),
            data: json!({"total": 600}),
        };
        assert_eq!(CloudEvent::from_json(event.to_json().as_bytes()), Ok(event.clone()));
        assert_eq!(event.customer(), Customer::named("user-1"));

        let mut encoded: Value = serde_json::from_str(&event.to_json()).expect("JSON");
        encoded.as_object_mut().expect("an object").remove("data");
        encoded["data_base64"] = json!(Base64::encode_string(br#"{"total": 600}"#));
        assert_eq!(CloudEvent::from_json(encoded.to_string().as_bytes()), Ok(event.clone()));
        encoded["data_base64"] = json!("?");
        assert!(CloudEvent::from_json(encoded.to_string().as_bytes()).is_err());

        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/orders"),
            ("ce-type", "created"),
            ("ce-time", "2026-11-22T00:29:50.527Z"),
            ("ce-partitionkey", "user-1"),
        ];
        let header = |name: &str| headers.iter().find(|(other, _)| *other == name).map(|(_, v)| (*v).to_owned());
        assert_eq!(CloudEvent::from_headers(header, br#"{"total": 600}"#), Ok(event));
    }

    #[test]
    fn what_lacks_a_required_attribute_is_no_event() {
        let whole = json!({"specversion": "1.0", "id": "1", "source": "/", "type": "t"});
        assert!(CloudEvent::from_json(whole.to_string().as_bytes()).is_ok());
        for (name, value) in [
            ("specversion", json!("0.3")),
            ("id", json!("")),
            ("id", json!(7)),
            ("source", Value::Null),
            ("type", Value::Null),
            ("time", json!(7)),
        ] {
            let mut broken = whole.clone();
            broken[name] = value;
            assert!(CloudEvent::from_json(broken.to_string().as_bytes()).is_err(), "{broken}");
        }
        for text in ["", "7", "[]", "{\"id\": \"1\", \"id\": \"2\"}"] {
            assert!(CloudEvent::from_json(text.as_bytes()).is_err(), "{text}");
        }
    }
}
