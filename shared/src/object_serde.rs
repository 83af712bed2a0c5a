//! Serde for structs that arrive as JSON objects. What serde derives would also read a list, its
//! elements taken for the fields in their order.

use serde::{de::Visitor, forward_to_deserialize_any};

/// Implements `Deserialize` for structs that derive it with `#[serde(remote = "Self")]`, so that they are
/// read from an object only. The derived function belongs to no trait then, and is what `Self::` names here.
#[macro_export]
macro_rules! read_from_object {
    ($($name:ty),+ $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize($crate::object_serde::Object(deserializer))
            }
        }
    )+};
}

/// The same for structs that derive `Serialize` too, in that way.
macro_rules! serde_as_object {
    ($($name:ty),+ $(,)?) => {
        $crate::read_from_object!($($name),+);
        $(
            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    Self::serialize(self, serializer)
                }
            }
        )+
    };
}

pub(crate) use serde_as_object;

/// Asks for an object, whatever it is asked for.
#[derive(Debug)]
pub struct Object<D>(pub D);

impl<'de, D: serde::Deserializer<'de>> serde::Deserializer<'de> for Object<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
