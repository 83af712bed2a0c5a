//! The primary key of a removed row, as the registry has the keys of roots: a JSON object.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::pg_sys::JsonbIteratorToken as Token;

use crate::archive::source::Source;

/// A key whose row may be gone already.
#[derive(Debug)]
pub struct Key(Vec<(String, Part)>);

/// A value of it, as `to_jsonb` has it.
#[derive(Debug)]
enum Part {
    Whole(i64),
    Bool(bool),
    /// A number as its type prints it.
    Number(CString),
    Text(CString),
}

impl Key {
    /// The key of a row; `None` where the table has no primary key. Values are printed by their types, which nobody but a
    /// superuser can make: no code of the table's owner runs.
    pub fn of(source: &Source, values: &[Option<pg_sys::Datum>]) -> Option<Self> {
        Self::of_values(source.key.iter().map(|column| {
            let value = (*values.get(column.place)?)?;
            Some((column.name.as_str(), column.type_oid, value))
        }))
    }

    /// The key of these columns, each with its name, its type and its value; `None` where one is NULL or there are none.
    pub fn of_values<'a>(
        columns: impl Iterator<Item = Option<(&'a str, pg_sys::Oid, pg_sys::Datum)>>,
    ) -> Option<Self> {
        let parts = columns.map(|column| {
            let (name, type_oid, value) = column?;
            Some((name.to_owned(), Part::of(type_oid, value)))
        });
        let parts = parts.collect::<Option<Vec<_>>>()?;
        (!parts.is_empty()).then_some(Self(parts))
    }

    /// As a jsonb, in the current memory.
    pub fn jsonb(&self) -> Option<pg_sys::Datum> {
        let mut object = Object::default();
        // SAFETY: builds an object as `jsonb_build_object` does (jsonb.c): what is pushed outlives the calls, and the result is
        // a copy.
        unsafe {
            let none = std::ptr::null_mut();
            object.push(Token::WJB_BEGIN_OBJECT, none);
            for (name, part) in &self.0 {
                let mut name = text(name.as_bytes());
                object.push(Token::WJB_KEY, &raw mut name);
                let mut value = part.value()?;
                object.push(Token::WJB_VALUE, &raw mut value);
            }
            object.push(Token::WJB_END_OBJECT, none);
            let whole = pg_sys::JsonbValueToJsonb(object.result);
            Some(pg_sys::Datum::from(whole))
        }
    }
}

/// An object of JSON that is being built: PostgreSQL's own from 19 on.
#[cfg(feature = "pg19")]
type Object = pg_sys::JsonbInState;

/// An object of JSON that is being built.
#[cfg(not(feature = "pg19"))]
struct Object {
    state: *mut pg_sys::JsonbParseState,
    /// Whole when its end was pushed.
    result: *mut pg_sys::JsonbValue,
}

#[cfg(not(feature = "pg19"))]
impl Default for Object {
    fn default() -> Self {
        Self {
            state: std::ptr::null_mut(),
            result: std::ptr::null_mut(),
        }
    }
}

trait Push {
    /// # Safety
    /// The value, if any, and what it points to outlive the object.
    unsafe fn push(&mut self, token: Token::Type, value: *mut pg_sys::JsonbValue);
}

impl Push for Object {
    #[cfg(feature = "pg19")]
    unsafe fn push(&mut self, token: Token::Type, value: *mut pg_sys::JsonbValue) {
        // SAFETY: as the caller promises.
        unsafe { pg_sys::pushJsonbValue(self, token, value) }
    }

    #[cfg(not(feature = "pg19"))]
    unsafe fn push(&mut self, token: Token::Type, value: *mut pg_sys::JsonbValue) {
        // SAFETY: as the caller promises.
        unsafe { self.result = pg_sys::pushJsonbValue(&raw mut self.state, token, value) }
    }
}

impl Part {
    fn of(type_oid: pg_sys::Oid, value: pg_sys::Datum) -> Self {
        match type_oid {
            pg_sys::INT2OID => Self::Whole(i64::from(value.value() as i16)),
            pg_sys::INT4OID => Self::Whole(i64::from(value.value() as i32)),
            pg_sys::INT8OID => Self::Whole(value.value() as i64),
            pg_sys::BOOLOID => Self::Bool(value.value() & 0xff != 0),
            pg_sys::NUMERICOID | pg_sys::FLOAT4OID | pg_sys::FLOAT8OID => {
                let text = printed(type_oid, value);
                // NaN and infinity are no numbers of JSON.
                if text.to_bytes().ends_with(b"N") || text.to_bytes().ends_with(b"y") {
                    Self::Text(text)
                } else {
                    Self::Number(text)
                }
            }
            pg_sys::DATEOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => {
                Self::Text(date(type_oid, value))
            }
            _ => Self::Text(printed(type_oid, value)),
        }
    }

    fn value(&self) -> Option<pg_sys::JsonbValue> {
        let numeric = |numeric| pg_sys::JsonbValue {
            type_: pg_sys::jbvType::jbvNumeric,
            val: pg_sys::JsonbValue__bindgen_ty_1 { numeric },
        };
        Some(match self {
            // SAFETY: makes a numeric of a number.
            Self::Whole(number) => numeric(unsafe { pg_sys::int64_to_numeric(*number) }),
            Self::Bool(boolean) => pg_sys::JsonbValue {
                type_: pg_sys::jbvType::jbvBool,
                val: pg_sys::JsonbValue__bindgen_ty_1 { boolean: *boolean },
            },
            Self::Number(text) => {
                let argument = |datum| Some(pg_sys::Datum::from(datum));
                // SAFETY: reads a number from a string, as a numeric of any precision (-1).
                let datum = unsafe {
                    pgrx::direct_function_call_as_datum(
                        pg_sys::numeric_in,
                        &[
                            argument(text.as_ptr() as usize),
                            argument(0),
                            argument(-1_i64 as usize),
                        ],
                    )
                };
                numeric(datum?.cast_mut_ptr())
            }
            Self::Text(string) => text(string.to_bytes()),
        })
    }
}

/// A string of JSON, which is not copied.
fn text(bytes: &[u8]) -> pg_sys::JsonbValue {
    let string = pg_sys::JsonbValue__bindgen_ty_1__bindgen_ty_1 {
        len: i32::try_from(bytes.len()).unwrap_or(i32::MAX),
        val: bytes.as_ptr().cast_mut().cast(),
    };
    pg_sys::JsonbValue {
        type_: pg_sys::jbvType::jbvString,
        val: pg_sys::JsonbValue__bindgen_ty_1 { string },
    }
}

/// A date or time as JSON has it, in UTC.
fn date(type_oid: pg_sys::Oid, value: pg_sys::Datum) -> CString {
    let (mut buffer, zone) = ([0; pg_sys::MAXDATELEN as usize + 1], 0);
    // SAFETY: the buffer is as long as the function wants it, and ends up with a string.
    unsafe {
        pg_sys::JsonEncodeDateTime(buffer.as_mut_ptr(), value, type_oid, &raw const zone);
        CStr::from_ptr(buffer.as_ptr()).to_owned()
    }
}

/// A value as its type prints it.
pub fn printed(type_oid: pg_sys::Oid, value: pg_sys::Datum) -> CString {
    let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: the value is one of the type; what is printed is a string in the current memory.
    unsafe {
        pg_sys::getTypeOutputInfo(type_oid, &raw mut function, &raw mut is_varlena);
        let text = pg_sys::OidOutputFunctionCall(function, value);
        let printed = CStr::from_ptr(text).to_owned();
        pg_sys::pfree(text.cast());
        printed
    }
}
