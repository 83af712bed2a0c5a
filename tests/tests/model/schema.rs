//! A random schema: a few tables and the references between them. `ddl` makes it in PostgreSQL, `rows` fills it.

mod ddl;
mod rows;

use keepsake_tests::random::Random;

/// The referring columns of a row: of each reference the parts of its key, as [`KeyType::parts`] has them. A part
/// that is another reference's column is kept with that one, and NULL here.
pub type Cells = Vec<Vec<Option<i32>>>;

/// What a deletion of the parent does, as PostgreSQL would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    Cascade,
    Restrict,
    NoAction,
    SetNull,
    SetDefault,
}

impl OnDelete {
    const fn sql(self) -> &'static str {
        match self {
            Self::Cascade => "CASCADE",
            Self::Restrict => "RESTRICT",
            Self::NoAction => "NO ACTION",
            Self::SetNull => "SET NULL",
            Self::SetDefault => "SET DEFAULT",
        }
    }

    /// Whether the parent goes and the reference with it, the referring row staying.
    pub const fn detaches(self) -> bool {
        matches!(self, Self::SetNull | Self::SetDefault)
    }
}

/// The type of a primary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    Int,
    Bigint,
    Uuid,
    Text,
    /// Text that a collation compares without regard to case.
    Loose,
    Domain,
    Enum,
    /// Two columns.
    Pair,
}

/// Numbers of rows stay below this: the labels of the enum.
pub const MOST_ROWS: i32 = 70;

impl KeyType {
    const ALL: [Self; 8] = [
        Self::Int,
        Self::Bigint,
        Self::Uuid,
        Self::Text,
        Self::Loose,
        Self::Domain,
        Self::Enum,
        Self::Pair,
    ];

    const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Int => &["int"],
            Self::Bigint => &["bigint"],
            Self::Uuid => &["uuid"],
            Self::Text => &["text"],
            Self::Loose => &["text COLLATE kinds.loose"],
            Self::Domain => &["kinds.code"],
            Self::Enum => &["kinds.grade"],
            Self::Pair => &["int", "text"],
        }
    }

    /// The key of row `number`, as text.
    fn values(self, number: i32) -> Vec<String> {
        match self {
            Self::Int | Self::Bigint => vec![number.to_string()],
            Self::Uuid => vec![format!("00000000-0000-0000-0000-{number:012}")],
            Self::Text => vec![format!("it's \\{number}")],
            Self::Loose => vec![format!("Key {number}")],
            Self::Domain => vec![format!("d{number}")],
            Self::Enum => vec![format!("e{number}")],
            Self::Pair => vec![(number % 3).to_string(), format!("'b' {}", number / 3)],
        }
    }

    /// The number of each part of the key of row `number`.
    pub fn parts(self, number: i32) -> Vec<i32> {
        match self {
            Self::Pair => vec![number % 3, number / 3],
            _ => vec![number],
        }
    }

    /// The row whose key has these parts.
    fn number(self, parts: &[i32]) -> Option<i32> {
        match (self, parts) {
            (Self::Pair, [a, b]) if *a < 3 => Some(a + 3 * b),
            (Self::Pair, _) => None,
            (_, parts) => parts.first().copied(),
        }
    }

    /// What a referring row says for one part: equal, though not always the same text.
    fn referring_value(self, part: usize, value: i32) -> String {
        let number = match (self, part) {
            (Self::Pair, 1) => 3 * value,
            _ => value,
        };
        let text = self.values(number).swap_remove(part);
        match self {
            Self::Loose => text.to_lowercase(),
            _ => text,
        }
    }
}

/// A reference from the rows of a table.
#[derive(Clone, Debug)]
pub struct Reference {
    pub parent: usize,
    pub action: OnDelete,
    /// What the foreign key itself says, where Keepsake is told otherwise.
    pub overridden: Option<OnDelete>,
    /// Declared to Keepsake, with a column that says which table is meant; else a foreign key.
    pub declared: bool,
    pub required: bool,
    pub deferrable: bool,
    /// The referring column is of a wider type than the key.
    pub wide: bool,
    /// Its first column is that of this reference, an earlier one.
    pub shares: Option<usize>,
    /// The parts that SET NULL or SET DEFAULT changes, where they are listed.
    pub listed: Option<&'static [usize]>,
}

impl Reference {
    /// Whether it cascades or restricts: no live row may refer by it to a deleted one.
    pub const fn is_enforced(&self) -> bool {
        !self.action.detaches()
    }

    /// The parts that are changed when it lets go.
    pub fn let_go(&self, key: KeyType) -> Vec<usize> {
        let all = || (0..key.columns().len()).collect();
        self.listed.map_or_else(all, <[usize]>::to_vec)
    }
}

/// What a plain `DELETE` from a managed table does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Convert,
    Reject,
    Allow,
}

impl Policy {
    const fn sql(self) -> &'static str {
        match self {
            Self::Convert => "convert",
            Self::Reject => "reject",
            Self::Allow => "allow",
        }
    }
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    namespace: &'static str,
    name: &'static str,
    pub key: KeyType,
    pub managed: bool,
    pub policy: Policy,
    pub references: Vec<Reference>,
    /// Whether labels are unique among live rows.
    pub unique: bool,
    /// Whether its rows name objects in a bucket.
    pub objects: bool,
    /// Whether it is partitioned, in three parts.
    pub partitioned: bool,
}

/// Tables; those of a higher number refer to those of a lower one, and back once all exist.
#[derive(Clone, Debug)]
pub struct Schema {
    pub tables: Vec<Table>,
    /// Whether deleted rows go to archives, and do not stay in their tables.
    pub archives: bool,
}

const NAMESPACES: [&str; 3] = ["public", "my \"shop\"", "Über"];
const NAMES: [&str; 6] = [
    "plain",
    "Order; DROP TABLE",
    "select",
    "it's",
    "tab.le",
    "a name of sixty-three bytes is as long as PostgreSQL lets it be",
];

impl Schema {
    pub fn random(random: &mut Random) -> Self {
        let count = 1 + random.below(NAMES.len());
        let mut tables: Vec<Table> = Vec::new();
        for (number, name) in NAMES.into_iter().enumerate().take(count) {
            tables.push(Table {
                namespace: random.one_of(&NAMESPACES),
                name,
                key: random.one_of(&KeyType::ALL),
                managed: number == 0 || !random.one_in(7),
                policy: Policy::Convert,
                references: Vec::new(),
                unique: random.one_in(2),
                objects: random.one_in(3),
                partitioned: false,
            });
        }
        let mut schema = Self {
            tables,
            archives: false,
        };
        for child in 0..count {
            for _ in 0..random.one_of(&[0, 1, 1, 2, 2, 3]) {
                // Mostly to an earlier table; else to itself or, late, to a later one.
                let parent = if child > 0 && !random.one_in(4) {
                    random.below(child)
                } else {
                    child + random.below(count - child)
                };
                let reference = schema.random_reference(random, child, parent);
                schema.tables[child].references.push(reference);
            }
        }
        schema
    }

    /// Gives all tables archives. What only tables that keep their rows have is left out: policies for a DELETE, references
    /// that are declared or overridden.
    pub fn use_archives(&mut self) {
        self.archives = true;
        for table in &mut self.tables {
            table.managed = true;
            table.policy = Policy::Convert;
            table.objects = false;
            table.references.retain(|reference| !reference.declared);
            for reference in &mut table.references {
                reference.overridden = None;
                reference.shares = None;
            }
        }
    }

    /// Chosen after all else, so that a seed goes on to mean the same schema and operations.
    pub fn choose_policies(&mut self, random: &mut Random) {
        for table in &mut self.tables {
            table.policy = random.weighted(&[
                (5, Policy::Convert),
                (1, Policy::Reject),
                (1, Policy::Allow),
            ]);
        }
    }

    /// Chosen last, for the same reason. Where a DELETE may be for good, the key's own action counts.
    pub fn choose_overrides(&mut self, random: &mut Random) {
        if self
            .tables
            .iter()
            .any(|table| table.policy == Policy::Allow)
        {
            return;
        }
        let managed: Vec<bool> = self.tables.iter().map(|table| table.managed).collect();
        for (child, table) in self.tables.iter_mut().enumerate() {
            for reference in &mut table.references {
                let both_managed = managed[child] && managed[reference.parent];
                let is_action = reference.action != OnDelete::NoAction;
                if both_managed && is_action && !reference.declared && random.one_in(4) {
                    let own = [OnDelete::NoAction, OnDelete::Cascade];
                    reference.overridden = Some(random.one_of(&own));
                }
            }
        }
    }

    fn random_reference(&self, random: &mut Random, child: usize, parent: usize) -> Reference {
        use OnDelete::{Cascade, NoAction, Restrict, SetDefault, SetNull};
        let (to, from) = (&self.tables[parent], &self.tables[child]);
        let both_managed = to.managed && from.managed;
        let declared =
            both_managed && !matches!(to.key, KeyType::Pair | KeyType::Loose) && random.one_in(6);
        let action = if declared {
            Cascade
        } else if to.managed {
            random.weighted(&[
                (5, Cascade),
                (2, Restrict),
                (1, NoAction),
                (2, SetNull),
                (1, SetDefault),
            ])
        } else {
            // What a hard delete of such a parent does to managed rows must not be CASCADE.
            random.one_of(&[Restrict, NoAction, SetNull])
        };
        Reference {
            parent,
            action,
            overridden: None,
            declared,
            required: parent < child && action != SetNull && random.one_in(2),
            deferrable: !declared && action != Restrict && random.one_in(5),
            wide: !declared && to.key == KeyType::Int && random.one_in(2),
            shares: None,
            listed: None,
        }
    }

    /// What the first seeds had not: partitions, lists of columns, two keys over one column. With
    /// `defaults`, some lists set only part of a key to its default.
    pub fn choose_shapes(&mut self, random: &mut Random, defaults: bool) {
        if random.one_in(2) {
            self.use_pairs();
            if self.tables.len() > 2 && random.one_in(2) {
                self.leave_two_keys(random);
            }
        }
        for table in &mut self.tables {
            table.partitioned = random.one_in(4);
            // A unique index would have to hold the key, by which the table is partitioned.
            table.unique &= !table.partitioned;
        }
        let tables: Vec<(KeyType, bool)> = self.tables.iter().map(|t| (t.key, t.managed)).collect();
        for table in &mut self.tables {
            for at in 0..table.references.len() {
                let reference = &table.references[at];
                let is_pair = tables[reference.parent].0 == KeyType::Pair;
                if !is_pair || reference.declared || reference.overridden.is_some() {
                    continue;
                }
                if reference.action == OnDelete::SetNull
                    || (reference.action == OnDelete::SetDefault && defaults)
                {
                    table.references[at].listed =
                        random.one_of(&[None, Some(&[0]), Some(&[1]), Some(&[0, 1])]);
                }
                let other = random.below(at + 1);
                if other < at && table.may_share(other, at, &tables) {
                    table.references[at].shares = Some(other);
                    table.references[at].required = false;
                    table.references[other].required = false;
                }
            }
        }
    }

    /// Leaves two parents, and a child whose two references share a column: one lets go, the other does not.
    fn leave_two_keys(&mut self, random: &mut Random) {
        let to = |parent, action| Reference {
            parent,
            action,
            overridden: None,
            declared: false,
            required: false,
            deferrable: false,
            wide: false,
            shares: (parent == 1).then_some(0),
            listed: None,
        };
        let action = random.one_of(&[OnDelete::Cascade, OnDelete::Cascade, OnDelete::Restrict]);
        self.tables.truncate(3);
        for table in &mut self.tables {
            table.managed = true;
            table.references.clear();
        }
        if let [.., child] = self.tables.as_mut_slice() {
            child.references = vec![to(0, OnDelete::SetNull), to(1, action)];
        }
    }

    /// Gives every table a key of two columns.
    fn use_pairs(&mut self) {
        for table in &mut self.tables {
            table.key = KeyType::Pair;
            for reference in &mut table.references {
                reference.declared = false;
                reference.wide = false;
            }
        }
    }

    /// Simpler schemas that are still of one piece.
    pub fn simpler(&self) -> Vec<Self> {
        let mut simpler = Vec::new();
        let last = self.tables.len() - 1;
        let is_free = self.tables[..last]
            .iter()
            .all(|table| table.references.iter().all(|to| to.parent != last));
        if last > 0 && is_free {
            let mut fewer = self.clone();
            fewer.tables.pop();
            simpler.push(fewer);
        }
        let mut with = |change: &dyn Fn(&mut Table), of: usize| {
            let mut other = self.clone();
            change(&mut other.tables[of]);
            simpler.push(other);
        };
        for (of, table) in self.tables.iter().enumerate() {
            for at in (0..table.references.len()).rev() {
                with(
                    &move |table: &mut Table| {
                        table.references.remove(at);
                        for later in &mut table.references {
                            later.shares = match later.shares {
                                Some(other) if other == at => None,
                                Some(other) if other > at => Some(other - 1),
                                shares => shares,
                            };
                        }
                    },
                    of,
                );
                if table.references[at].overridden.is_some() {
                    with(
                        &move |table: &mut Table| table.references[at].overridden = None,
                        of,
                    );
                }
                if table.references[at].listed.is_some() {
                    with(
                        &move |table: &mut Table| table.references[at].listed = None,
                        of,
                    );
                }
                if table.references[at].deferrable {
                    with(
                        &move |table: &mut Table| table.references[at].deferrable = false,
                        of,
                    );
                }
            }
            if table.policy != Policy::Convert {
                with(&|table: &mut Table| table.policy = Policy::Convert, of);
            }
            if table.unique {
                with(&|table: &mut Table| table.unique = false, of);
            }
            if table.objects {
                with(&|table: &mut Table| table.objects = false, of);
            }
            if table.partitioned {
                with(&|table: &mut Table| table.partitioned = false, of);
            }
        }
        simpler
    }
}

impl Table {
    pub fn sql(&self) -> String {
        format!("{}.{}", ident(self.namespace), ident(self.name))
    }

    /// Its archive. No name here is too long for it.
    pub fn archive(&self) -> String {
        format!(
            "{}.{}",
            ident(&format!("{}_deleted", self.namespace)),
            ident(self.name)
        )
    }

    pub fn as_literal(&self) -> String {
        literal(&self.sql())
    }

    /// What the type column of a declared reference says when this table is meant.
    pub const fn type_value(&self) -> &'static str {
        self.name
    }

    pub fn key_columns(&self) -> Vec<String> {
        let names: &[&str] = if self.key == KeyType::Pair {
            &["Key's \"a\"", "b"]
        } else {
            &["Key's \"a\""]
        };
        names.iter().map(|name| ident(name)).collect()
    }

    /// The key of a row as an argument of `keepsake.soft_delete`.
    pub fn key_argument(&self, number: i32) -> String {
        let values = self.key.values(number);
        if self.key == KeyType::Pair {
            return format!(
                "jsonb_build_object('Key''s \"a\"', {}, 'b', {})",
                literal(&values[0]),
                literal(&values[1])
            );
        }
        literal(&values.concat())
    }

    /// The reference and part whose column this part of a reference is.
    pub fn slot(&self, at: usize, part: usize) -> (usize, usize) {
        match self.references[at].shares {
            Some(other) if part == 0 => (other, 0),
            _ => (at, part),
        }
    }

    /// Whether one reference may take its first column from another: neither shares already, at most one lets go,
    /// to NULL, and where a deletion is PostgreSQL's business it cannot depend on which of them comes first.
    fn may_share(&self, first: usize, second: usize, tables: &[(KeyType, bool)]) -> bool {
        let pair = [first, second];
        let shares = |at: &Reference| at.shares.is_some_and(|other| pair.contains(&other));
        let fits = |at: usize| {
            let reference = &self.references[at];
            tables[reference.parent] == (KeyType::Pair, true)
                && !reference.declared
                && reference.overridden.is_none()
                && reference.shares.is_none()
                && reference.action != OnDelete::SetDefault
        };
        let lets_go = |at: &usize| self.references[*at].action.detaches();
        pair.into_iter().all(fits)
            && !self.references.iter().any(shares)
            && pair.iter().filter(|at| lets_go(at)).count() < 2
    }

    pub fn reference_columns(&self, at: usize, key: KeyType) -> Vec<String> {
        (0..key.columns().len())
            .map(|part| {
                let (at, part) = self.slot(at, part);
                format!("to_{at}_{part}")
            })
            .collect()
    }

    pub fn type_column(at: usize) -> String {
        format!("to_{at}_table")
    }
}

/// A name in SQL.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant in SQL.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
