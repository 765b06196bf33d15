% Domain   : Pelletier's puzzle 55, who killed Aunt Agatha
% Status   : Theorem
fof(someone, axiom, ? [X] : (lives(X) & killed(X, agatha))).
fof(agatha, axiom, lives(agatha)).
fof(butler, axiom, lives(butler)).
fof(charles, axiom, lives(charles)).
fof(only_these, axiom, ! [X] : (lives(X) => (X = agatha | X = butler | X = charles))).
fof(killers_hate, axiom, ! [X, Y] : (killed(X, Y) => hates(X, Y))).
fof(killers_are_poorer, axiom, ! [X, Y] : (killed(X, Y) => ~ richer(X, Y))).
fof(charles_hates, axiom, ! [X] : (hates(agatha, X) => ~ hates(charles, X))).
fof(agatha_hates, axiom, ! [X] : (X != butler => hates(agatha, X))).
fof(butler_hates_the_poorer, axiom, ! [X] : (~ richer(X, agatha) => hates(butler, X))).
fof(butler_hates_with_agatha, axiom, ! [X] : (hates(agatha, X) => hates(butler, X))).
fof(nobody_hates_all, axiom, ! [X] : ? [Y] : ~ hates(X, Y)).
fof(two_people, axiom, agatha != butler).
fof(she_did, conjecture, killed(agatha, agatha)).
