% Domain   : a smaller cast of Pelletier's puzzle 55
% Status   : Theorem
fof(suspects, axiom, killed(agatha) | killed(butler) | killed(charles)).
fof(charles, axiom, ~ hates(charles)).
fof(butler, axiom, poorer(butler)).
fof(killers_hate, axiom, ! [X] : (killed(X) => hates(X))).
fof(killers_are_poorer, axiom, ! [X] : (killed(X) => ~ poorer(X))).
fof(she_did, conjecture, killed(agatha)).
