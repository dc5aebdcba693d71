/*
 * Revocation, rule change and membership: three members, two elections, every interleaving.
 *
 * To be read beside docs/SAFETY.md, whose invariants I1 to I9 and promises P1, P2 and P4 it names. "make model" lets spin
 * try every interleaving, and then breaks each rule of the list below in turn: each time spin must find the harm.
 *
 * What is left out, and why that loses nothing:
 *   Time            Suspicion may strike at any moment, so nothing rests on a failure detector being right.
 *   Hosts down      One that is down does nothing, and so does a slow one: a crash is an instant reboot as a standby.
 *   Late replies    A commit counts as acknowledged as soon as PostgreSQL could acknowledge it. To do so later, or never,
 *                   asks less of the elections that follow.
 *   The stream      To send, flush and reply is one step. What is still under way when a connection ends is in sock[].
 *   Copies          k is 1 throughout, as for three hosts. k of N in general is proved on paper and tried by sim.
 */

#define TERMS 3                             /* the first reign and two elections */

/* A second model, -DPROGRESS: faults end at some moment, after at most one election, and then the cluster must become
   whole by itself, with at most one election more. */
#ifdef PROGRESS
#define STORMY    (TERMS-1)                 /* the last term that a false suspicion may begin */
#define LAST_TERM 0
#else
#define STORMY    TERMS
#define LAST_TERM (term == TERMS)           /* nobody is elected after it: only its promotion is of interest */
#endif

/* Rules to break, one at a time: spin -a -DBREAK=... */
#define N_MINUS_K            1              /* n-k reports suffice for an election */
#define RECEIVER_ALIVE       2              /* the end of WAL is taken for final while the old receiver still flushes */
#define RELAY_LEFT_OPEN      3              /* the promise is given but the relay goes on carrying */
#define SEGMENT_START        4              /* the position shown right after a restart is reported */
#define REPORT_WHILE_PRIMARY 5              /* the deposed primary reports before its own walsenders are ended */
#define PROMISE_LOST         6              /* the promise is not on disk */
#define TIMELINE_REUSED      7              /* PostgreSQL chooses the new timeline's number by itself */
#define NO_FORK_CHECK        8              /* a relay carries without comparing the end of WAL with the fork */
#define OLD_PRIMARY_LEFT_OUT 9              /* the new term's rule leaves the old primary out */
#define EMPTY_NAMES          10             /* the winner promotes with empty synchronous_standby_names */
#define ADMIT_ON_COMMIT      11             /* clients are admitted because the term row's COMMIT returned */
#define RULE_NOT_FROZEN      12             /* a rule may be recorded while a term is being decided */
#define NO_JOINT             13             /* the new rule is recorded without the joint one before it */
#define NO_PROBE             14             /* the new rule is recorded before k of it have flushed what came before */
#define WALSENDERS_LEFT      15             /* walsenders older than the names go on, with the old copy of them */
#define STALE_ACK            16             /* the walsender of a member that comes in may be older than its return */
#define TOUCH_IN_RULE        17             /* data is rewound or cloned while the rule counts on it */
#define TOUCH_AFTER_PROMISE  18             /* leave to touch data, got in one term, is used in the next */
#define NEVER_LEAVES         19             /* -DPROGRESS: who must be rewound is not taken out of the rule */
#ifndef BREAK
#define BREAK 0
#endif

/* WAL: two bits for each record, the first record lowest, saying in which term it was written. Writer and place make a
   record what it is. PostgreSQL doesn't see the writer: it sees the place and the number of a timeline. */
#define AT(w, i)     (((w) >> (2*(i)-2)) & 3)
#define LEN(w)       (((w)>0) + ((w)>3) + ((w)>15) + ((w)>63) + ((w)>255))
#define PRE(w, n)    ((w) & ((1<<(2*(n)))-1))
#define END(w)       AT(w, MAX(LEN(w),1))           /* the last record, 0: none */
#define ON(v, w)     (PRE(w, LEN(v)) == (v))        /* history v is a beginning of history w */
#define PUT(w, t)    w = (w) | ((t) << (2*LEN(w)))
#define COMMITS 1                                   /* clients' in the first term; later the term row stands for all */

/* Rules: "ANY k of N" as k*8 + N, N a set of bits. */
#define K(r)         ((r) >> 3)
#define HAS(r, m)    (((r) >> (m)) & 1)
#define SIZE(r)      (HAS(r,0) + HAS(r,1) + HAS(r,2))
#define BIT(m)       (1 << (m))
#define MIN(a, b)    ((a) < (b) -> (a) : (b))
#define MAX(a, b)    ((a) > (b) -> (a) : (b))
#define JOINT(r, q)  (MIN(K(r), K(q))*8 + (((r)|(q)) & 7))

/* The agreed record. Each write of it is one atomic step, which is what compare-and-swap buys. */
#define ELECTING 0
#define ELECTED  1
#define REIGNING 2
#define NOBODY   3
byte term = 1, phase = REIGNING, last = 0, rule = 8 + 6;    /* member 0 reigns by ANY 1 of 1, 2 */
byte who[4];                        /* by term: its winner */
byte tl[4];                         /* its timeline's number */
short hist[4];                      /* all WAL before its fork */
bool published[4];                  /* CAS 3 is written */
byte report[3];                     /* by member, of this term: 64 + rank; 0: none */

/* A member's agent. */
byte promise[3];                    /* on disk */
byte relay[3];                      /* the term whose primary it carries from; 0: closed */
byte sock[3];                       /* a record in the socket of a receiver that has lost its connection; 0: it is gone */
bool cleared[3];                    /* has seen, with its relay closed, that the rule excludes it: may touch its data */
byte step[3], target[3], mark[3];   /* as primary: the rule change under way */

/* A member's PostgreSQL. */
short wal[3];                       /* on disk */
byte reign[3];                      /* runs as the primary of this term; 0: as a standby */
bool admitted[3];
byte names[3], older[3];            /* the rule in force, and older walsenders' copy of it */
byte ack[9];                        /* ack[p*3+m]: what p's walsender for m was last told is flushed, whoever tells it */

short acked;                        /* what the outside knows: the longest acknowledged history */
bool calm;                          /* no more faults */
short v; byte n;                    /* scratch, 0 between steps */

#define A(p, m)      ack[(p)*3+(m)]
#define ROW(p)       (LEN(hist[reign[p]]) + 1)      /* the term row's place */
#define RANK(w)      (tl[END(w)]*8 + LEN(w))        /* (timeline, LSN) */
#define SRC(m)       who[relay[m]]
#define CARRIES(m)   (relay[m] && reign[SRC(m)] == relay[m])
#define FINAL(m)     (sock[m] == 0 || BREAK == RECEIVER_ALIVE)
#define REPORTS      ((report[0] && HAS(rule,0)) + (report[1] && HAS(rule,1)) + (report[2] && HAS(rule,2)))

/* w lies on term t's history: it ends on t's timeline, or on an ancestor no later than where the line left that. */
#define UPTO(w, h, i) (AT(h,i) && tl[AT(h,i)] == tl[END(w)] && LEN(w) <= i)
#define LIES(w, t)   (w == 0 || tl[END(w)] == tl[t] || UPTO(w,hist[t],1) || UPTO(w,hist[t],2) || \
                      UPTO(w,hist[t],3) || UPTO(w,hist[t],4) || UPTO(w,hist[t],5))

/* The last place that k of rule r have flushed, as far as primary p was told; x and y are the other two. */
#define TOLD(r, p, m) (HAS(r,m) -> A(p,m) : 0)
#define FLUSHED(r, p, x, y) (K(r) == 0 -> LEN(wal[p]) : MIN(LEN(wal[p]), \
    (K(r) == 1 -> MAX(TOLD(r,p,x), TOLD(r,p,y)) : MIN(TOLD(r,p,x), TOLD(r,p,y)))))

/* PostgreSQL acknowledges all that its names allow, or that an older walsender's copy of them allows. The term row goes
   first: when k have flushed it, clients are let in. That is an acknowledgement as well: what is read there must be in
   every later primary's history. */
inline acknowledge(p, s1, s2) {
    n = MAX(FLUSHED(names[p], p, s1, s2), FLUSHED(older[p], p, s1, s2));
    if
    :: n >= ROW(p) ->
        admitted[p] = 1;
        v = PRE(wal[p], n);
        assert(ON(v, acked) || ON(acked, v));                       /* P1: what was acknowledged lies on one line */
        if :: LEN(v) > LEN(acked) -> acked = v :: else fi;
        assert(phase == ELECTING || last == p || ON(v, wal[last]))  /* P2: a deposed server's too */
    :: else
    fi;
    n = 0; v = 0
}

/* PostgreSQL ends, the agent forgets what it had in memory, and all begins again as a standby. */
inline reboot(h) {
    reign[h] = 0; admitted[h] = 0; names[h] = 0; older[h] = 0; A(h,0) = 0; A(h,1) = 0; A(h,2) = 0;
    relay[h] = 0; sock[h] = 0; cleared[h] = 0; step[h] = 0; target[h] = 0; mark[h] = 0;
    if :: BREAK == PROMISE_LOST -> promise[h] = 1 :: else fi
}

#define MAY_CHANGE(m) (phase == REIGNING && last == m && reign[m] == term && !LAST_TERM)
#define CHANGE(m, r)  target[m] = r; rule = (BREAK == NO_JOINT -> target[m] : JOINT(rule, target[m])); step[m] = 1
#define LEAVES(m, x)  (HAS(rule,x) && SIZE(rule) > K(rule) && (!calm || !relay[x] && BREAK != NEVER_LEAVES))
#define ENTERS(m, x)  (!HAS(rule,x) && A(m,x) >= ROW(m) && (!calm || relay[x]))

/* In calm, a change that waits for members that can't come while others are here is thought over. */
#define HOPELESS(m, x, y) (step[m] == 3 && FLUSHED(target[m],m,x,y) < mark[m] && \
    (relay[x] == term && !HAS(target[m],x) || relay[y] == term && !HAS(target[m],y)))

/* An operator may have sound data cloned anew: tried in the first term. */
#define RECLONE      (!calm && STORMY == TERMS && term == 1)

proctype member(byte m, x, y) {             /* x and y are the other two */
end: do

/* PostgreSQL */

    /* a client's commit, waiting */
    :: d_step { admitted[m] && !calm && LEN(wal[m]) < ROW(m) + COMMITS*(reign[m] == 1) ->
        PUT(wal[m], reign[m]) }

    /* a standby streams, flushes, replies; the walsender sends by LSN and looks at no timeline */
    :: d_step { CARRIES(m) && (LEN(wal[SRC(m)]) > LEN(wal[m]) || A(SRC(m),m) != LEN(wal[m])) ->
        if :: LEN(wal[SRC(m)]) > LEN(wal[m]) -> PUT(wal[m], AT(wal[SRC(m)], LEN(wal[m])+1)) :: else fi;
        A(SRC(m),m) = LEN(wal[m]);
        if :: SRC(m) == x -> acknowledge(x, m, y) :: else -> acknowledge(y, m, x) fi }

    /* a WAL receiver outlives its connection, and flushes what it has or does not */
    :: d_step { sock[m] -> PUT(wal[m], sock[m]); sock[m] = 0 }
    :: d_step { sock[m] -> sock[m] = 0 }

/* Faults, and what follows from them */

    /* a crash of the host or of all of PostgreSQL; in calm, the fencing of a deposed primary */
    :: d_step { !calm || (reign[m] && promise[m] > reign[m]) -> reboot(m) }

    /* the relay's connection ends: the network, the agent, or the primary; p's walsender may not notice */
    :: d_step { relay[m] && (!calm || !CARRIES(m)) ->
        if :: CARRIES(m) && LEN(wal[SRC(m)]) > LEN(wal[m]) -> sock[m] = AT(wal[SRC(m)], LEN(wal[m])+1) :: else fi;
        relay[m] = 0 }

    /* a primary's agent forgets its rule change: it died, or thinks it over */
    :: d_step { step[m] && (!calm || reign[m] != term || HOPELESS(m,x,y)) -> step[m] = 0; target[m] = 0; mark[m] = 0 }

/* Election */

    /* step 3, detach: promise on disk, relay closed */
    :: d_step { promise[m] < term ->
        promise[m] = term;
        if :: BREAK != TOUCH_AFTER_PROMISE -> cleared[m] = 0 :: else fi;
        if :: BREAK != RELAY_LEFT_OPEN -> relay[m] = 0 :: else fi }

    /* step 3, report, once the receiver is gone (I3) */
    :: d_step { phase == ELECTING && promise[m] == term && !report[m] && FINAL(m) &&
        (reign[m] == 0 || BREAK == REPORT_WHILE_PRIMARY) ->
        report[m] = 64 + RANK(wal[m]) }
    :: d_step { BREAK == SEGMENT_START && phase == ELECTING && promise[m] == term && !report[m] && reign[m] == 0 ->
        report[m] = 64 + RANK(PRE(wal[m],1)) }

    /* step 4, CAS 2: n-k+1 reports, or the last written winner's; m is the best of them. Members 1 and 2 are alike until
       one of them wins, so that it is 1 loses nothing. */
    :: d_step { phase == ELECTING && report[m] && report[m] >= report[x] && report[m] >= report[y] &&
        (report[last] || REPORTS >= SIZE(rule) - K(rule) + 1 - (BREAK == N_MINUS_K)) && (m < 2 || term > 2) ->
        if :: BREAK != OLD_PRIMARY_LEFT_OUT -> rule = rule | BIT(last) :: else fi;
        rule = rule & (31 - BIT(m));
        last = m; who[term] = m; phase = ELECTED;
        report[0] = 0; report[1] = 0; report[2] = 0 }

    /* step 5, promote, once in a term, on the reserved timeline, with names; the term row */
    :: d_step { phase == ELECTED && last == m && promise[m] == term && reign[m] == 0 && sock[m] == 0 &&
        END(wal[m]) != term ->
        assert(ON(acked, wal[m]));                                  /* P1: the winner has all that was acknowledged */
        if :: BREAK == TIMELINE_REUSED -> tl[term] = tl[END(wal[m])] + 1 :: else fi;
        assert(tl[term] != tl[term-1] && (term == 2 || tl[term] != tl[1]));     /* I5 */
        hist[term] = wal[m]; reign[m] = term;
        names[m] = (BREAK == EMPTY_NAMES -> 0 : rule); older[m] = names[m];
        PUT(wal[m], term) }

    /* step 5, CAS 3: the fork is published */
    :: d_step { phase == ELECTED && last == m && reign[m] == term && !LAST_TERM ->
        phase = REIGNING; published[term] = 1;
        if :: BREAK == ADMIT_ON_COMMIT -> older[m] = 0 :: else fi;  /* the row taken for acknowledged, as if k were 0 */
        acknowledge(m, x, y);
        older[m] = names[m] }

    /* step 6, attach, in the promised term only; the new receiver begins with its own position as flushed */
    :: d_step { relay[m] == 0 && published[promise[m]] && who[promise[m]] != m && reign[who[promise[m]]] == promise[m] &&
        reign[m] == 0 && FINAL(m) && (LIES(wal[m], promise[m]) || BREAK == NO_FORK_CHECK) ->
        relay[m] = promise[m]; cleared[m] = 0;
        A(SRC(m),m) = LEN(wal[m]);
        if :: SRC(m) == x -> acknowledge(x, m, y) :: else -> acknowledge(y, m, x) fi }

/* Rule change, by the primary. Records compare the term and the phase; what is local doesn't, and a deposed primary may
   go on with it. */

    /* record the joint rule: somebody leaves, somebody enters, or a change left midway is taken up */
    :: d_step { MAY_CHANGE(m) && step[m] == 0 && LEAVES(m, x) -> CHANGE(m, rule & (31 - BIT(x))) }
    :: d_step { MAY_CHANGE(m) && step[m] == 0 && LEAVES(m, y) -> CHANGE(m, rule & (31 - BIT(y))) }
    :: d_step { MAY_CHANGE(m) && step[m] == 0 && ENTERS(m, x) -> CHANGE(m, rule | BIT(x)) }
    :: d_step { MAY_CHANGE(m) && step[m] == 0 && ENTERS(m, y) -> CHANGE(m, rule | BIT(y)) }
    :: d_step { MAY_CHANGE(m) && step[m] == 0 && names[m] != rule -> CHANGE(m, rule) }

    /* end the old walsender of whoever enters, then write the names */
    :: d_step { step[m] == 1 && reign[m] && older[m] == names[m] ->
        if :: HAS(target[m],x) && !HAS(names[m],x) && BREAK != STALE_ACK -> A(m,x) = 0 :: else fi;
        if :: HAS(target[m],y) && !HAS(names[m],y) && BREAK != STALE_ACK -> A(m,y) = 0 :: else fi;
        names[m] = target[m]; step[m] = 2;
        acknowledge(m, x, y) }

    /* end every older walsender; an agent that restarts finds out that it has to */
    :: d_step { reign[m] && (step[m] == 2 || older[m] != names[m]) ->
        if :: BREAK != WALSENDERS_LEFT -> older[m] = names[m]; A(m,x) = 0; A(m,y) = 0 :: else fi;
        if :: step[m] == 2 -> step[m] = 3; mark[m] = LEN(wal[m]) :: else fi }

    /* k of the new rule have flushed all that the old one let pass: record the new rule */
    :: d_step { step[m] == 3 && (MAY_CHANGE(m) || BREAK == RULE_NOT_FROZEN) &&
        (FLUSHED(target[m],m,x,y) >= mark[m] || BREAK == NO_PROBE) ->
        rule = target[m]; step[m] = 0; target[m] = 0; mark[m] = 0 }

/* Rejoin */

    /* out of the rule and cut off: the data may be touched, in this term */
    :: d_step { !cleared[m] && relay[m] == 0 && sock[m] == 0 && reign[m] == 0 && promise[m] == term && !LAST_TERM &&
        phase == REIGNING && last != m && (!HAS(rule,m) || BREAK == TOUCH_IN_RULE) &&
        wal[m] && (RECLONE || !LIES(wal[m], term)) ->
        cleared[m] = 1 }

    /* touch it: a rewind keeps more than this */
    :: d_step { cleared[m] -> wal[m] = 0; cleared[m] = 0 }
    od
}

#define LEADERLESS   (reign[last] != term && (phase == REIGNING || END(wal[last]) == term))
#define FOLLOWS(m)   (reign[m] == 0 && promise[m] == term && relay[m] == term && wal[m] == wal[last])
#define WHOLE        (phase == REIGNING && reign[last] == term && admitted[last] && rule == 8 + 7 - BIT(last) && \
                      names[last] == rule && older[last] == rule && \
                      (last == 0 || FOLLOWS(0)) && (last == 1 || FOLLOWS(1)) && (last == 2 || FOLLOWS(2)))

proctype suspicion() {
end: do
    /* step 2, CAS 1: by anybody, at any time, for any reason; from here on the rule is frozen */
    :: d_step { phase != ELECTING && (calm -> LEADERLESS && term < TERMS : term < STORMY) ->
        term++; phase = ELECTING; who[term] = NOBODY; tl[term] = term }
#ifdef PROGRESS
    :: !calm -> calm = 1
    :: timeout -> assert(WHOLE); break      /* P4: when nothing is left to do, all is well */
#endif
    od
}

#ifdef PROGRESS
never { do :: !calm :: calm -> break od; accept: do :: calm od }    /* and that moment comes */
#endif

init {
    d_step {
        wal[0] = 1; wal[1] = 1; wal[2] = 1; acked = 1; ack[1] = 1; ack[2] = 1;     /* the first term's row */
        tl[1] = 1; published[1] = 1; reign[0] = 1; admitted[0] = 1; names[0] = rule; older[0] = rule;
        promise[0] = 1; promise[1] = 1; promise[2] = 1; relay[1] = 1; relay[2] = 1
    }
    atomic { run member(0,1,2); run member(1,2,0); run member(2,0,1); run suspicion() }
}
