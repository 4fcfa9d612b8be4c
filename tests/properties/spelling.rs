//! Writes one JSON document in many ways: order of members, white space, escapes.

use serde_json::Value;

/// A spelling of a document; `choices` selects it; after their end, everything is written in the plainest way.
pub fn spell(value: &Value, choices: &[u8]) -> String {
    let mut speller = Speller { choices: choices.iter(), text: String::new() };
    speller.value(value);
    speller.text
}

struct Speller<'c> {
    choices: std::slice::Iter<'c, u8>,
    text: String,
}

impl Speller<'_> {
    fn choose(&mut self, ways: usize) -> usize {
        self.choices.next().map_or(0, |byte| usize::from(*byte)) % ways
    }

    fn value(&mut self, value: &Value) {
        self.space();
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.comma_after(index);
                    self.value(item);
                }
                self.space();
                self.text.push(']');
            }
            Value::Object(members) => {
                self.text.push('{');
                let mut left: Vec<_> = members.iter().collect();
                for index in 0..members.len() {
                    self.comma_after(index);
                    let (name, value) = left.remove(self.choose(left.len()));
                    self.space();
                    self.string(name);
                    self.space();
                    self.text.push(':');
                    self.value(value);
                }
                self.space();
                self.text.push('}');
            }
            plain => self.text.push_str(&plain.to_string()),
        }
        self.space();
    }

    fn comma_after(&mut self, index: usize) {
        if index > 0 {
            self.text.push(',');
        }
    }

    fn space(&mut self) {
        let way = self.choose(8);
        self.text.push_str(["", "", "", "", " ", "\n", "\t", " \r\n"][way]);
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            let way = self.choose(3);
            for unit in c.encode_utf16(&mut [0; 2]).iter().take(way * 2) {
                self.text += &if way == 1 { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") };
            }
            if way == 0 {
                self.plain(c);
            }
        }
        self.text.push('"');
    }

    /// The character itself, or its short escape where it has one.
    fn plain(&mut self, c: char) {
        let json = Value::from(String::from(c)).to_string();
        match c {
            '/' if self.choose(2) == 1 => self.text.push_str("\\/"),
            _ => self.text.push_str(&json[1..json.len() - 1]),
        }
    }
}
