//! Values as a file has them: the same text that the flags take, or a plain number; of several, one or a list.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::RangeInclusive, time::Duration};

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use wherefore_common::Direction;

use crate::{
    backend::interfaces::Pattern,
    locality::Locality,
    rules::PROTOCOLS,
    units::{parse_duration, parse_size},
};

/// A value that is written as text, or as a number where it looks like one.
pub trait Text: Sized {
    /// What is expected: `a size, as in 200kB`.
    const EXPECTED: &'static str;

    /// The value of a text.
    ///
    /// # Errors
    /// Why not, and what is allowed.
    fn parse(text: &str) -> Result<Self, String>;

    /// Its JSON Schema.
    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "description": Self::EXPECTED })
    }
}

/// A [`Text`] of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<T>(pub T);

impl<'de, T: Text> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<T: Text> de::Visitor<'_> for Visitor<T> {
            type Value = Written<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::parse(text).map(Written).map_err(|reason| E::custom(format!("{text:?}: {reason}")))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                T::parse(&number.to_string())
                    .map(Written)
                    .map_err(|reason| E::custom(format!("{number}: {reason}")))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
                T::parse(&number.to_string())
                    .map(Written)
                    .map_err(|reason| E::custom(format!("{number}: {reason}")))
            }
        }

        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

impl<T: Text> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::EXPECTED.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// One value, or a list of them; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T> List<T> {
    /// The values; none where there is no list.
    pub fn values(list: Option<Self>) -> Vec<T> {
        list.map(|list| list.0).unwrap_or_default()
    }
}

impl<'de, T: Text> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: Text> de::Visitor<'de> for Visitor<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a list of such", T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Written::deserialize(de::value::StrDeserializer::new(text))
                    .map(|Written(one)| List(vec![one]))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Written::deserialize(de::value::I64Deserializer::new(number))
                    .map(|Written(one)| List(vec![one]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(Written(value)) = seq.next_element()? {
                    values.push(value);
                }
                if values.is_empty() {
                    return Err(de::Error::custom("an empty list asks for nothing; leave the key out"));
                }
                Ok(List(values))
            }
        }

        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

impl<T: Text> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("list of {}", T::EXPECTED).into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = T::schema();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Text for Size {
    const EXPECTED: &'static str = "a size, as in 200kB or 64KiB";

    fn parse(text: &str) -> Result<Self, String> {
        parse_size(text).map(Self).map_err(|error| error.to_string())
    }
}

/// A duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

impl Text for Time {
    const EXPECTED: &'static str = "a duration, as in 5s, 500ms or 1m30s";

    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self).map_err(|error| error.to_string())
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number"], "description": Self::EXPECTED })
    }
}

/// A whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole(pub u64);

impl Text for Whole {
    const EXPECTED: &'static str = "a whole number";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "give a whole number, 0 or more".to_owned())
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

/// One of the names of `T`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneOf<T>(pub T);

impl<T: clap::ValueEnum> OneOf<T> {
    fn names() -> Vec<String> {
        let values = T::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
        values.map(|value| value.get_name().to_owned()).collect()
    }
}

impl<T: clap::ValueEnum> Text for OneOf<T> {
    const EXPECTED: &'static str = "a name";

    fn parse(text: &str) -> Result<Self, String> {
        T::from_str(text, false).map(Self).map_err(|_| format!("allowed are {}", Self::names().join(", ")))
    }

    fn schema() -> Schema {
        json_schema!({ "enum": Self::names() })
    }
}

/// A prefix or a plain address; host bits are cleared.
impl Text for IpNet {
    const EXPECTED: &'static str = "a prefix or an address, as in 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7";

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let net = text.parse::<Self>().map(|net| net.trunc());
        net.or_else(|_| text.parse::<std::net::IpAddr>().map(Self::from))
            .map_err(|_| format!("give {}", Self::EXPECTED))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "description": Self::EXPECTED })
    }
}

impl Text for Pattern {
    const EXPECTED: &'static str = "an interface's name, or a glob, as in eth0 or veth*";

    fn parse(text: &str) -> Result<Self, String> {
        // The kernel takes no such names.
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(format!("give {}", Self::EXPECTED));
        }
        text.parse().map_err(|error: crate::backend::interfaces::PatternError| error.to_string())
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "description": Self::EXPECTED })
    }
}

/// Ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(pub RangeInclusive<u16>);

impl Text for Ports {
    const EXPECTED: &'static str = "a port or a range of ports, as in 443 or \"8000-8999\"";

    fn parse(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first @ 1..), Ok(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(format!("give {}, 1 to 65535", Self::EXPECTED)),
        }
    }
}

/// An IP protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol(pub u8);

impl Text for Protocol {
    const EXPECTED: &'static str = "a protocol, as in tcp, udp, icmp or 47";

    fn parse(text: &str) -> Result<Self, String> {
        let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        named.or_else(|| text.parse().ok()).map(Self).ok_or_else(|| {
            let names: Vec<_> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
            format!("allowed are {} and numbers up to 255", names.join(", "))
        })
    }
}

impl Text for Direction {
    const EXPECTED: &'static str = "ingress or egress";

    fn parse(text: &str) -> Result<Self, String> {
        let known = [Self::Ingress, Self::Egress].into_iter().find(|direction| direction.name() == text);
        known.ok_or_else(|| "allowed are ingress, egress".to_owned())
    }

    fn schema() -> Schema {
        json_schema!({ "enum": [Self::Ingress.name(), Self::Egress.name()] })
    }
}

/// What may be asked for: not that nothing is known.
const LOCALITIES: [Locality; 4] =
    [Locality::Outgoing, Locality::Incoming, Locality::Local, Locality::Forwarded];

impl Text for Locality {
    const EXPECTED: &'static str = "outgoing, incoming, local or forwarded";

    fn parse(text: &str) -> Result<Self, String> {
        let known = LOCALITIES.into_iter().find(|locality| locality.name() == text);
        known.ok_or_else(|| format!("allowed are {}", LOCALITIES.map(Self::name).join(", ")))
    }

    fn schema() -> Schema {
        json_schema!({ "enum": LOCALITIES.map(Self::name) })
    }
}

/// A number of bytes, or `none`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound(pub Option<f64>);

impl Text for Bound {
    const EXPECTED: &'static str = "a number of bytes, or \"none\"";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number.map(|number| Self(Some(number))).ok_or_else(|| format!("give {}", Self::EXPECTED))
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "type": "number" }, { "const": "none" }] })
    }
}

/// A rule's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

/// Longest name, in characters.
const LONGEST_NAME: usize = 64;

impl Text for Name {
    const EXPECTED: &'static str = "a name of 1 to 64 characters";

    fn parse(text: &str) -> Result<Self, String> {
        let clean = crate::clean::clean(text) == text && !text.contains('"');
        if text.trim() != text || !(1..=LONGEST_NAME).contains(&text.chars().count()) || !clean {
            return Err(format!(
                "give {}, without quotes, control characters and spaces at its ends",
                Self::EXPECTED
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": LONGEST_NAME })
    }
}
