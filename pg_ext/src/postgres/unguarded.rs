//! Functions of PostgreSQL without the guard against errors that `pg_sys` puts around each call: for what is called for each row, under one guard
//! for all calls.

/// Declares such functions. A type other than the one that `pg_sys` has of this release does not compile.
macro_rules! unguarded {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty;)+) => {
        unsafe extern "C-unwind" {
            $(fn $name($($argument: $type),*) -> $result;)+
        }
        $(const _: unsafe fn($($type),*) -> $result = pgrx::pg_sys::$name;)+
    };
}

pub(crate) use unguarded;
