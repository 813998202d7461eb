// Sums of products of codes, PE neurons at a time, SIMD products each in a cycle. No stage can be stopped: results go to a
// FIFO whose places are counted before a group of products sets out, so no enable runs through the pipeline.
`default_nettype none

// Sum of N values of B bits, a register behind each of the D = ceil(log2(N)) levels of adders.
module bnn_tree #(
  parameter N = 8,
  parameter B = 3,
  parameter D = 3,
  parameter SIGNED = 0
) (
  input  wire clk,
  input  wire [N*B-1:0] x,
  output wire [B+D-1:0] y
);
  generate
    if (D == 0) begin : leaf
      wire unused = clk;
      assign y = x;
    end else begin : node
      localparam L = N > (1 << (D-1)) ? (1 << (D-1)) : N;
      wire [B+D-2:0] a, b;
      reg [B+D-1:0] sum;
      bnn_tree #(.N(L), .B(B), .D(D-1), .SIGNED(SIGNED)) left (.clk(clk), .x(x[L*B-1:0]), .y(a));
      if (N > L) begin : two
        bnn_tree #(.N(N-L), .B(B), .D(D-1), .SIGNED(SIGNED)) right (.clk(clk), .x(x[N*B-1:L*B]), .y(b));
      end else begin : one
        assign b = 0;
      end
      always @(posedge clk) sum <= {SIGNED != 0 && a[B+D-2], a} + {SIGNED != 0 && b[B+D-2], b};
      assign y = sum;
    end
  endgenerate
endmodule

// What SIMD products add to a sum: of 1-bit codes how many are +1, of 8-bit codes the sum of x where w is +1 and of ~x,
// which is -x - 1, where it is -1. LATENCY is 1 + ceil(log2(values)).
module bnn_products #(
  parameter SIMD = 8,
  parameter XB = 1,                             // bits of an input code
  parameter OW = 8                              // bits of the result, signed for 8-bit codes
) (
  input  wire clk,
  input  wire [SIMD*XB-1:0] x,
  input  wire [SIMD-1:0] w,
  output wire [OW-1:0] y
);
  localparam G = XB == 1 ? (SIMD + 3) / 4 : SIMD;   // values that the tree adds
  localparam B = XB == 1 ? 3 : XB;
  localparam D = $clog2(G);
  reg [G*B-1:0] leaf;
  wire [B+D-1:0] total;
  genvar i;
  generate
    if (XB == 1) begin : bits
      wire [4*G-1:0] same;
      assign same[SIMD-1:0] = ~(x ^ w);
      if (4*G > SIMD) begin : rest
        assign same[4*G-1:SIMD] = 0;
      end
      for (i = 0; i < G; i = i + 1) begin : four
        always @(posedge clk)
          leaf[i*3 +: 3] <= {2'b00, same[4*i]} + {2'b00, same[4*i+1]} + {2'b00, same[4*i+2]} + {2'b00, same[4*i+3]};
      end
      if (OW > B + D) begin : pad
        assign y = {{(OW-B-D){1'b0}}, total};
      end else begin : cut
        assign y = total[OW-1:0];
      end
    end else begin : bytes
      for (i = 0; i < SIMD; i = i + 1) begin : lane
        always @(posedge clk) leaf[i*XB +: XB] <= x[i*XB +: XB] ^ {XB{~w[i]}};
      end
      if (OW > B + D) begin : pad
        assign y = {{(OW-B-D){total[B+D-1]}}, total};
      end else begin : cut
        assign y = total[OW-1:0];
      end
    end
  endgenerate
  bnn_tree #(.N(G), .B(B), .D(D), .SIGNED(XB != 1)) tree (.clk(clk), .x(leaf), .y(total));
endmodule

// The matrix-vector-threshold pipeline. A group is the SF issues that make one result of PE neurons.
module bnn_mac #(
  parameter PE = 4,
  parameter SIMD = 8,
  parameter XB = 1,
  parameter SF = 8,          // issues of a group
  parameter NF = 4,          // groups of a vector
  parameter AW = 8,          // bits of a sum
  parameter THRESH = 1,      // 1: bits sum >= 0, the sums start from minus the thresholds; 0: the sums
  parameter LOG = 4,         // 2^LOG results find place in the output FIFO
  parameter WK = 1,          // words of a row of the weight memory
  parameter WFILE = "",      // ceil(NF * SF / WK) rows of WK words of PE * SIMD signs
  parameter TFILE = ""       // NF rows of PE starts of AW bits
) (
  input  wire clk,
  input  wire rst,
  input  wire set_out,       // a group takes its place in the output FIFO
  // issue: in the cycle after `issue` the word x is there
  input  wire issue,
  input  wire issue_first,
  input  wire issue_last,
  input  wire issue_zero,    // the word counts as zeros
  input  wire [SIMD*XB-1:0] x,
  input  wire [(NF*SF > 1 ? $clog2(NF*SF) : 1)-1:0] waddr,
  output wire credit,        // a group may set out
  output wire out_valid,
  input  wire out_ready,
  output wire [PE*(THRESH ? 1 : AW)-1:0] out_data
);
  localparam RW = THRESH ? 1 : AW;
  localparam NW = NF > 1 ? $clog2(NF) : 1;
  /* verilator lint_off WIDTHTRUNC */
  localparam [NW-1:0] LAST_GROUP = NF - 1;
  /* verilator lint_on WIDTHTRUNC */
  localparam G = XB == 1 ? (SIMD + 3) / 4 : SIMD;
  localparam LP = 1 + $clog2(G);             // stages of bnn_products
  localparam SHARE = 8;                      // neurons that one register of codes feeds
  localparam C = (PE + SHARE - 1) / SHARE;
  localparam LONG = C > 1 || WK > 1 ? 1 : 0; // one more stage, for the wires to the copies or the choice of a word
  localparam S = 2 + LONG + LP;              // from issue to the accumulator's input
  localparam WB = PE*SIMD;
  bnn_credit #(.LOG(LOG)) places (
    .clk(clk), .rst(rst), .take(set_out), .give(out_valid && out_ready), .ok(credit));
  // weights: two registers behind the memory; of a row of several words one is chosen between them
  wire [WB-1:0] w;
  generate
    if (WK == 1) begin : plain
      reg [WB-1:0] wmem [0:NF*SF-1];
      initial $readmemh(WFILE, wmem);
      reg [WB-1:0] w1, w2;
      always @(posedge clk) w2 <= w1;
      if (LONG) begin : later
        reg [(NF*SF > 1 ? $clog2(NF*SF) : 1)-1:0] waddr1;
        always @(posedge clk) begin waddr1 <= waddr; w1 <= wmem[waddr1]; end
      end else begin : now
        always @(posedge clk) w1 <= wmem[waddr];
      end
      assign w = w2;
    end else begin : wide
      localparam ROWS = (NF*SF + WK - 1) / WK;
      localparam RB = ROWS > 1 ? $clog2(ROWS) : 1;
      localparam KB = $clog2(WK);
      localparam REST = NF*SF - (ROWS - 1)*WK;   // words of the last row
      /* verilator lint_off WIDTHTRUNC */
      localparam [RB-1:0] LAST_ROW = ROWS - 1;
      localparam [KB-1:0] LAST_LANE = WK - 1, LAST_OF_ALL = REST - 1;
      /* verilator lint_on WIDTHTRUNC */
      reg [WK*WB-1:0] wmem [0:ROWS-1];
      initial $readmemh(WFILE, wmem);
      reg [WK*WB-1:0] row1, row2;
      reg [RB-1:0] row;
      reg [KB-1:0] lane, lane1, lane2;
      reg [WB-1:0] w3;
      wire end_row = lane == LAST_LANE || row == LAST_ROW && lane == LAST_OF_ALL;
      always @(posedge clk) begin
        if (rst) begin row <= 0; lane <= 0; end
        else if (issue) begin
          lane <= end_row ? {KB{1'b0}} : lane + 1'b1;
          if (end_row) row <= row == LAST_ROW ? {RB{1'b0}} : row + 1'b1;
        end
        row1 <= wmem[row]; row2 <= row1;
        lane1 <= lane; lane2 <= lane1;
        w3 <= row2[lane2*WB +: WB];
      end
      assign w = w3;
      wire unused = &waddr;          // words are read in turn
    end
  endgenerate
  // codes: each group of neurons has a copy of its own, or one register would drive wires to all of them
  wire [SIMD*XB-1:0] x1;
  generate
    if (LONG) begin : moved
      reg [SIMD*XB-1:0] xd;
      always @(posedge clk) xd <= x;
      assign x1 = xd;
    end else begin : near
      assign x1 = x;
    end
  endgenerate
  reg [C*SIMD*XB-1:0] x2;
  (* keep *) always @(posedge clk) x2 <= {C{x1}};
  // control, as long as the data takes
  reg [S-1:0] v, l;
  reg [S-2:0] f, z;
  always @(posedge clk) begin
    v <= rst ? {S{1'b0}} : {v[S-2:0], issue};
    f <= {f[S-3:0], issue_first};
    l <= {l[S-2:0], issue_last};
    z <= {z[S-3:0], issue_zero};
  end
  reg [C-1:0] vc, fc, zc;                    // the last stage, for each group
  (* keep *) always @(posedge clk) begin
    vc <= rst ? {C{1'b0}} : {C{v[S-2]}};
    fc <= {C{f[S-2]}};
    zc <= {C{z[S-2]}};
  end
  wire [PE*AW-1:0] start;
  generate
    if (THRESH) begin : starts
      reg [PE*AW-1:0] tmem [0:NF-1];
      initial $readmemh(TFILE, tmem);
      reg [NW-1:0] nf;
      reg [PE*AW-1:0] t1, t2;
      always @(posedge clk) begin
        t1 <= tmem[nf]; t2 <= t1;
        if (rst) nf <= 0;
        else if (v[S-3] && l[S-3]) nf <= nf == LAST_GROUP ? {NW{1'b0}} : nf + 1'b1;
      end
      assign start = t2;
    end else begin : none
      assign start = 0;
    end
  endgenerate
  wire [PE*RW-1:0] result;
  genvar p;
  generate
    for (p = 0; p < PE; p = p + 1) begin : pe
      wire [AW-1:0] part;
      reg [AW-1:0] acc;
      bnn_products #(.SIMD(SIMD), .XB(XB), .OW(AW)) products (.clk(clk), .x(x2[(p/SHARE)*SIMD*XB +: SIMD*XB]), .w(w[p*SIMD +: SIMD]), .y(part));
      // a word of zeros adds half of its products to a count of those that are +1
      wire [AW-1:0] add = XB == 1 && zc[p/SHARE] ? SIMD / 2 : part;
      always @(posedge clk) if (vc[p/SHARE]) acc <= (fc[p/SHARE] ? start[p*AW +: AW] : acc) + add;
      if (THRESH) begin : sign
        assign result[p] = ~acc[AW-1];
      end else begin : sum
        assign result[p*AW +: AW] = acc;
      end
    end
  endgenerate
  reg done;
  always @(posedge clk) done <= !rst && v[S-1] && l[S-1];
  bnn_fifo #(.W(PE*RW), .LOG(LOG)) results (
    .clk(clk), .rst(rst), .push(done), .in_data(result),
    .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));
endmodule
`default_nettype wire
