//! The primary key of a removed row, as JSON: as the registry has the keys of roots.

use std::ffi::CStr;

use pgrx::pg_sys;
use serde_json::{Map, Value};

use crate::archive::source::Source;

/// The key of a row as a JSON object; `None` where the table has no primary key. Values are printed by their types, which
/// nobody but a superuser can make: no code of the table's owner runs.
pub fn as_json(source: &Source, values: &[Option<pg_sys::Datum>]) -> Option<String> {
    if source.key.is_empty() {
        return None;
    }
    let mut object = Map::new();
    for column in &source.key {
        let value = (*values.get(column.place)?)?;
        object.insert(column.name.clone(), json(column.type_oid, value)?);
    }
    Some(Value::Object(object).to_string())
}

/// A value as `to_jsonb` has it.
fn json(type_oid: pg_sys::Oid, value: pg_sys::Datum) -> Option<Value> {
    Some(match type_oid {
        pg_sys::INT2OID => Value::from(value.value() as i16),
        pg_sys::INT4OID => Value::from(value.value() as i32),
        pg_sys::INT8OID => Value::from(value.value() as i64),
        pg_sys::BOOLOID => Value::from(value.value() & 0xff != 0),
        pg_sys::NUMERICOID | pg_sys::FLOAT4OID | pg_sys::FLOAT8OID => {
            let text = printed(type_oid, value)?;
            // NaN and infinity are no numbers of JSON.
            serde_json::from_str::<serde_json::Number>(&text)
                .map_or(Value::String(text), Value::Number)
        }
        pg_sys::DATEOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => {
            Value::String(date(type_oid, value)?)
        }
        _ => Value::String(printed(type_oid, value)?),
    })
}

/// A date or time as JSON has it, in UTC.
fn date(type_oid: pg_sys::Oid, value: pg_sys::Datum) -> Option<String> {
    let (mut buffer, zone) = ([0; 129], 0);
    // SAFETY: the buffer is longer than MAXDATELEN + 1, as the function wants it.
    let printed = unsafe {
        pg_sys::JsonEncodeDateTime(buffer.as_mut_ptr(), value, type_oid, &raw const zone);
        CStr::from_ptr(buffer.as_ptr())
    };
    Some(printed.to_str().ok()?.to_owned())
}

/// A value as its type prints it.
fn printed(type_oid: pg_sys::Oid, value: pg_sys::Datum) -> Option<String> {
    let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: the value is one of the type; what is printed is a string in the current memory.
    unsafe {
        pg_sys::getTypeOutputInfo(type_oid, &raw mut function, &raw mut is_varlena);
        let text = pg_sys::OidOutputFunctionCall(function, value);
        let printed = CStr::from_ptr(text).to_str().ok().map(str::to_owned);
        pg_sys::pfree(text.cast());
        printed
    }
}
