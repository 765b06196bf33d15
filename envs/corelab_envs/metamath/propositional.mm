$( Propositional calculus, with short theorems to prove.

   The axioms are Lukasiewicz's three for implication and negation, with modus ponens, and Kleene's
   for conjunction, disjunction and equivalence (Kleene 1952, Introduction to Metamathematics,
   section 19). Statements and proofs are corelab's own. $)

$c ( ) -> -. /\ \/ <-> wff |- $.
$v ph ps ch th ta $.
wph $f wff ph $.
wps $f wff ps $.
wch $f wff ch $.
wth $f wff th $.
wta $f wff ta $.

w-not $a wff -. ph $.
w-imp $a wff ( ph -> ps ) $.
w-and $a wff ( ph /\ ps ) $.
w-or $a wff ( ph \/ ps ) $.
w-iff $a wff ( ph <-> ps ) $.

${
  mp.minor $e |- ph $.
  mp.major $e |- ( ph -> ps ) $.
  mp $a |- ps $.
$}
ax-weaken $a |- ( ph -> ( ps -> ph ) ) $.
ax-distribute $a |- ( ( ph -> ( ps -> ch ) ) -> ( ( ph -> ps ) -> ( ph -> ch ) ) ) $.
ax-contrary $a |- ( ( -. ph -> -. ps ) -> ( ps -> ph ) ) $.
ax-and-left $a |- ( ( ph /\ ps ) -> ph ) $.
ax-and-right $a |- ( ( ph /\ ps ) -> ps ) $.
ax-and $a |- ( ph -> ( ps -> ( ph /\ ps ) ) ) $.
ax-or-left $a |- ( ph -> ( ph \/ ps ) ) $.
ax-or-right $a |- ( ps -> ( ph \/ ps ) ) $.
ax-or $a |- ( ( ph -> ch ) -> ( ( ps -> ch ) -> ( ( ph \/ ps ) -> ch ) ) ) $.
ax-iff-left $a |- ( ( ph <-> ps ) -> ( ph -> ps ) ) $.
ax-iff-right $a |- ( ( ph <-> ps ) -> ( ps -> ph ) ) $.
ax-iff $a |- ( ( ph -> ps ) -> ( ( ps -> ph ) -> ( ph <-> ps ) ) ) $.

${
  weaken.1 $e |- ph $.
  weaken $p |- ( ps -> ph ) $=
    wph wps wph w-imp weaken.1 wph wps ax-weaken mp $.
$}

${
  distribute.1 $e |- ( ph -> ( ps -> ch ) ) $.
  distribute $p |- ( ( ph -> ps ) -> ( ph -> ch ) ) $=
    wph wps wch w-imp w-imp wph wps w-imp wph wch w-imp w-imp distribute.1 wph wps wch
    ax-distribute mp $.
$}

identity $p |- ( ph -> ph ) $=
  wph wps wph w-imp w-imp wph wph w-imp wph wps ax-weaken wph wps wph w-imp wph wph wps wph w-imp
  ax-weaken distribute mp $.

${
  mp-twice.1 $e |- ph $.
  mp-twice.2 $e |- ps $.
  mp-twice.3 $e |- ( ph -> ( ps -> ch ) ) $.
  mp-twice $p |- ch $=
    wps wch mp-twice.2 wph wps wch w-imp mp-twice.1 mp-twice.3 mp mp $.
$}

${
  mp-under.1 $e |- ( ph -> ps ) $.
  mp-under.2 $e |- ( ph -> ( ps -> ch ) ) $.
  mp-under $p |- ( ph -> ch ) $=
    wph wps w-imp wph wch w-imp mp-under.1 wph wps wch mp-under.2 distribute mp $.
$}

${
  chain.1 $e |- ( ph -> ps ) $.
  chain.2 $e |- ( ps -> ch ) $.
  chain $p |- ( ph -> ch ) $=
    wph wps wch chain.1 wps wch w-imp wph chain.2 weaken mp-under $.
$}

${
  chain-3.1 $e |- ( ph -> ps ) $.
  chain-3.2 $e |- ( ps -> ch ) $.
  chain-3.3 $e |- ( ch -> th ) $.
  chain-3 $p |- ( ph -> th ) $=
    wph wps wth chain-3.1 wps wch wth chain-3.2 chain-3.3 chain chain $.
$}

${
  swap.1 $e |- ( ph -> ( ps -> ch ) ) $.
  swap $p |- ( ps -> ( ph -> ch ) ) $=
    wps wph wps w-imp wph wch w-imp wps wph ax-weaken wph wps wch swap.1 distribute chain $.
$}

swap-closed $p |- ( ( ph -> ( ps -> ch ) ) -> ( ps -> ( ph -> ch ) ) ) $=
  wps wph wps wch w-imp w-imp wph wch w-imp wps wph wps w-imp wph wps wch w-imp w-imp wph wch
  w-imp w-imp wps wph ax-weaken wph wps wch w-imp w-imp wph wps w-imp wph wch w-imp wph wps wch
  ax-distribute swap chain swap $.

${
  prefix.1 $e |- ( ph -> ps ) $.
  prefix $p |- ( ( ch -> ph ) -> ( ch -> ps ) ) $=
    wch wph wps wph wps w-imp wch prefix.1 weaken distribute $.
$}

prefix-closed $p |- ( ( ph -> ps ) -> ( ( ch -> ph ) -> ( ch -> ps ) ) ) $=
  wph wps w-imp wch wph wps w-imp w-imp wch wph w-imp wch wps w-imp w-imp wph wps w-imp wch
  ax-weaken wch wph wps ax-distribute chain $.

${
  suffix.1 $e |- ( ph -> ps ) $.
  suffix $p |- ( ( ps -> ch ) -> ( ph -> ch ) ) $=
    wph wps w-imp wps wch w-imp wph wch w-imp w-imp suffix.1 wps wch w-imp wph wps w-imp wph wch
    w-imp wps wch wph prefix-closed swap mp $.
$}

suffix-closed $p |- ( ( ph -> ps ) -> ( ( ps -> ch ) -> ( ph -> ch ) ) ) $=
  wps wch w-imp wph wps w-imp wph wch w-imp wps wch wph prefix-closed swap $.

assertion $p |- ( ph -> ( ( ph -> ps ) -> ps ) ) $=
  wph wps w-imp wph wps wph wps w-imp identity swap $.

${
  contract.1 $e |- ( ph -> ( ph -> ps ) ) $.
  contract $p |- ( ph -> ps ) $=
    wph wph wps wph identity contract.1 mp-under $.
$}

${
  weaken-under.1 $e |- ( ph -> ps ) $.
  weaken-under $p |- ( ph -> ( ch -> ps ) ) $=
    wph wps wch wps w-imp weaken-under.1 wps wch ax-weaken chain $.
$}

${
  contrary.1 $e |- ( -. ph -> -. ps ) $.
  contrary $p |- ( ps -> ph ) $=
    wph w-not wps w-not w-imp wps wph w-imp contrary.1 wph wps ax-contrary mp $.
$}

explosion $p |- ( -. ph -> ( ph -> ps ) ) $=
  wph w-not wps w-not wph w-not w-imp wph wps w-imp wph w-not wps w-not ax-weaken wps wph
  ax-contrary chain $.

explosion-swapped $p |- ( ph -> ( -. ph -> ps ) ) $=
  wph w-not wph wps wph wps explosion swap $.

${
  clavius.1 $e |- ( -. ph -> ph ) $.
  clavius $p |- ph $=
    wph w-not wph w-imp wph clavius.1 wph wph w-not wph w-imp wph w-not wph wph w-not wph w-imp
    w-not clavius.1 wph wph w-not wph w-imp w-not explosion mp-under contrary mp $.
$}

double-negation-out $p |- ( -. -. ph -> ph ) $=
  wph w-not w-not wph wph w-not w-not wph w-not wph w-not w-not w-not w-imp wph w-not w-not wph
  w-imp wph w-not wph w-not w-not w-not explosion wph wph w-not w-not ax-contrary chain contract $.

double-negation-in $p |- ( ph -> -. -. ph ) $=
  wph w-not w-not wph wph w-not double-negation-out contrary $.

${
  transpose.1 $e |- ( ph -> ps ) $.
  transpose $p |- ( -. ps -> -. ph ) $=
    wph w-not wps w-not wph w-not w-not wph wps w-not w-not wph double-negation-out wph wps wps
    w-not w-not transpose.1 wps double-negation-in chain chain contrary $.
$}

${
  transpose-in.1 $e |- ( ph -> -. ps ) $.
  transpose-in $p |- ( ps -> -. ph ) $=
    wph w-not wps wph w-not w-not wph wps w-not wph double-negation-out transpose-in.1 chain
    contrary $.
$}

${
  transpose-out.1 $e |- ( -. ph -> ps ) $.
  transpose-out $p |- ( -. ps -> ph ) $=
    wph wps w-not wph w-not wps wps w-not w-not transpose-out.1 wps double-negation-in chain
    contrary $.
$}

${
  refute.1 $e |- ( ph -> -. ph ) $.
  refute $p |- -. ph $=
    wph w-not wph w-not w-not wph wph w-not wph double-negation-out refute.1 chain clavius $.
$}

${
  and-left.1 $e |- ( ph /\ ps ) $.
  and-left $p |- ph $=
    wph wps w-and wph and-left.1 wph wps ax-and-left mp $.
$}

${
  and-right.1 $e |- ( ph /\ ps ) $.
  and-right $p |- ps $=
    wph wps w-and wps and-right.1 wph wps ax-and-right mp $.
$}

${
  and-join.1 $e |- ph $.
  and-join.2 $e |- ps $.
  and-join $p |- ( ph /\ ps ) $=
    wph wps wph wps w-and and-join.1 and-join.2 wph wps ax-and mp-twice $.
$}

${
  and-under.1 $e |- ( ph -> ps ) $.
  and-under.2 $e |- ( ph -> ch ) $.
  and-under $p |- ( ph -> ( ps /\ ch ) ) $=
    wph wch wps wch w-and and-under.2 wph wps wch wps wch w-and w-imp and-under.1 wps wch ax-and
    chain mp-under $.
$}

and-swap $p |- ( ( ph /\ ps ) -> ( ps /\ ph ) ) $=
  wph wps w-and wps wph wph wps ax-and-right wph wps ax-and-left and-under $.

and-same $p |- ( ph -> ( ph /\ ph ) ) $=
  wph wph wph wph identity wph identity and-under $.

${
  import.1 $e |- ( ph -> ( ps -> ch ) ) $.
  import $p |- ( ( ph /\ ps ) -> ch ) $=
    wph wps w-and wps wch wph wps ax-and-right wph wps w-and wph wps wch w-imp wph wps ax-and-left
    import.1 chain mp-under $.
$}

${
  export.1 $e |- ( ( ph /\ ps ) -> ch ) $.
  export $p |- ( ph -> ( ps -> ch ) ) $=
    wph wps wph wps w-and w-imp wps wch w-imp wph wps ax-and wph wps w-and wch wps export.1 prefix
    chain $.
$}

and-apply $p |- ( ( ph /\ ( ph -> ps ) ) -> ps ) $=
  wph wph wps w-imp wps wph wps assertion import $.

${
  and-map-left.1 $e |- ( ph -> ps ) $.
  and-map-left $p |- ( ( ph /\ ch ) -> ( ps /\ ch ) ) $=
    wph wch w-and wps wch wph wch w-and wph wps wph wch ax-and-left and-map-left.1 chain wph wch
    ax-and-right and-under $.
$}

${
  and-map-right.1 $e |- ( ph -> ps ) $.
  and-map-right $p |- ( ( ch /\ ph ) -> ( ch /\ ps ) ) $=
    wch wph w-and wch wps wch wph ax-and-left wch wph w-and wph wps wch wph ax-and-right
    and-map-right.1 chain and-under $.
$}

and-regroup $p |- ( ( ( ph /\ ps ) /\ ch ) -> ( ph /\ ( ps /\ ch ) ) ) $=
  wph wps w-and wch w-and wph wps wch w-and wph wps w-and wch w-and wph wps w-and wph wph wps
  w-and wch ax-and-left wph wps ax-and-left chain wph wps w-and wps wch wph wps ax-and-right
  and-map-left and-under $.

non-contradiction $p |- -. ( ph /\ -. ph ) $=
  wph wph w-not w-and wph wph w-not wph wph w-not w-and w-not wph wph wph w-not w-and w-not
  explosion-swapped import refute $.

${
  or-cases.1 $e |- ( ph -> ch ) $.
  or-cases.2 $e |- ( ps -> ch ) $.
  or-cases $p |- ( ( ph \/ ps ) -> ch ) $=
    wph wch w-imp wps wch w-imp wph wps w-or wch w-imp or-cases.1 or-cases.2 wph wps wch ax-or
    mp-twice $.
$}

or-swap $p |- ( ( ph \/ ps ) -> ( ps \/ ph ) ) $=
  wph wps wps wph w-or wps wph ax-or-right wps wph ax-or-left or-cases $.

or-same $p |- ( ( ph \/ ph ) -> ph ) $=
  wph wph wph wph identity wph identity or-cases $.

${
  or-map-left.1 $e |- ( ph -> ps ) $.
  or-map-left $p |- ( ( ph \/ ch ) -> ( ps \/ ch ) ) $=
    wph wch wps wch w-or wph wps wps wch w-or or-map-left.1 wps wch ax-or-left chain wps wch
    ax-or-right or-cases $.
$}

or-regroup $p |- ( ( ( ph \/ ps ) \/ ch ) -> ( ph \/ ( ps \/ ch ) ) ) $=
  wph wps w-or wch wph wps wch w-or w-or wph wps wph wps wch w-or w-or wph wps wch w-or ax-or-left
  wps wps wch w-or wph wps wch w-or w-or wps wch ax-or-left wph wps wch w-or ax-or-right chain
  or-cases wch wps wch w-or wph wps wch w-or w-or wps wch ax-or-right wph wps wch w-or ax-or-right
  chain or-cases $.

or-rule-out $p |- ( ( ph \/ ps ) -> ( -. ph -> ps ) ) $=
  wph wps wph w-not wps w-imp wph wps explosion-swapped wps wph w-not ax-weaken or-cases $.

or-absorb $p |- ( ( ph \/ ( ph /\ ps ) ) -> ph ) $=
  wph wph wps w-and wph wph identity wph wps ax-and-left or-cases $.

excluded-middle $p |- ( ph \/ -. ph ) $=
  wph wph w-not w-or wph wph w-not w-or w-not wph w-not wph wph w-not w-or wph wph wph w-not w-or
  wph wph w-not ax-or-left transpose wph wph w-not ax-or-right chain clavius $.

or-over-and $p |- ( ( ph \/ ( ps /\ ch ) ) -> ( ( ph \/ ps ) /\ ( ph \/ ch ) ) ) $=
  wph wps wch w-and wph wps w-or wph wch w-or w-and wph wph wps w-or wph wch w-or wph wps
  ax-or-left wph wch ax-or-left and-under wps wch w-and wph wps w-or wph wch w-or wps wch w-and
  wps wph wps w-or wps wch ax-and-left wph wps ax-or-right chain wps wch w-and wch wph wch w-or
  wps wch ax-and-right wph wch ax-or-right chain and-under or-cases $.

${
  iff-left.1 $e |- ( ph <-> ps ) $.
  iff-left $p |- ( ph -> ps ) $=
    wph wps w-iff wph wps w-imp iff-left.1 wph wps ax-iff-left mp $.
$}

${
  iff-right.1 $e |- ( ph <-> ps ) $.
  iff-right $p |- ( ps -> ph ) $=
    wph wps w-iff wps wph w-imp iff-right.1 wph wps ax-iff-right mp $.
$}

${
  iff-join.1 $e |- ( ph -> ps ) $.
  iff-join.2 $e |- ( ps -> ph ) $.
  iff-join $p |- ( ph <-> ps ) $=
    wph wps w-imp wps wph w-imp wph wps w-iff iff-join.1 iff-join.2 wph wps ax-iff mp-twice $.
$}

iff-same $p |- ( ph <-> ph ) $=
  wph wph wph identity wph identity iff-join $.

${
  iff-swap.1 $e |- ( ph <-> ps ) $.
  iff-swap $p |- ( ps <-> ph ) $=
    wps wph wph wps iff-swap.1 iff-right wph wps iff-swap.1 iff-left iff-join $.
$}

${
  iff-chain.1 $e |- ( ph <-> ps ) $.
  iff-chain.2 $e |- ( ps <-> ch ) $.
  iff-chain $p |- ( ph <-> ch ) $=
    wph wch wph wps wch wph wps iff-chain.1 iff-left wps wch iff-chain.2 iff-left chain wch wps
    wph wps wch iff-chain.2 iff-right wph wps iff-chain.1 iff-right chain iff-join $.
$}

${
  iff-not.1 $e |- ( ph <-> ps ) $.
  iff-not $p |- ( -. ph <-> -. ps ) $=
    wph w-not wps w-not wps wph wph wps iff-not.1 iff-right transpose wph wps wph wps iff-not.1
    iff-left transpose iff-join $.
$}

double-negation $p |- ( ph <-> -. -. ph ) $=
  wph wph w-not w-not wph double-negation-in wph double-negation-out iff-join $.

and-commutes $p |- ( ( ph /\ ps ) <-> ( ps /\ ph ) ) $=
  wph wps w-and wps wph w-and wph wps and-swap wps wph and-swap iff-join $.

or-commutes $p |- ( ( ph \/ ps ) <-> ( ps \/ ph ) ) $=
  wph wps w-or wps wph w-or wph wps or-swap wps wph or-swap iff-join $.

and-idempotent $p |- ( ( ph /\ ph ) <-> ph ) $=
  wph wph w-and wph wph wph ax-and-left wph and-same iff-join $.
