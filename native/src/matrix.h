// Weight matrices, packed in the form that a kernel multiplies.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "file.h"
#include "forms.h"
#include "kernels/kernels.h"
#include "large_pages.h"
#include "threads.h"

namespace tinyvox {

// Whether memory is taken, or only the size of it found out.
enum class Memory : bool { taken, measured };

// Room for the values between two factors, for int8 activations and for what they leave out of fine
// inputs, and the threads that help. Each stream has its own.
class MatrixWork {
 public:
  explicit MatrixWork(Threads& threads, Memory memory = Memory::taken)
      : threads_(threads), memory_(memory) {}

  // Makes room: for the columns of any leaf, and for the rows of any factor but the last.
  void reserve(size_t columns, size_t rows);
  // The same for a leaf of so many columns and rows whose input is fine.
  void reserve_fine(size_t columns, size_t rows);
  // The same for a leaf of so many columns that has strays.
  void reserve_strays(size_t columns);
  void take();  // what was measured
  size_t bytes() const;

 private:
  friend class Leaf;
  friend class PackedMatrix;

  Threads& threads_;
  Memory memory_;
  size_t columns_ = 0, rows_ = 0, fine_columns_ = 0, fine_rows_ = 0, stray_columns_ = 0;
  std::vector<int8_t> values_;
  std::vector<int8_t> by_column_;  // as in Activations
  std::vector<float> between_[2];
  std::vector<float> rest_, low_;  // of fine inputs: what int8 leaves out, and its products
  float scale_[max_frames];
  int32_t sum_[max_frames];
};

// The leaf of an expression that is applied last.
const Tensor& leftmost(const Tensor& tensor);

// A leaf of a matrix expression, dense or coded.
class Leaf {
 public:
  // Rows [first, first + rows) of a dense or coded tensor. One that is measured cannot be applied.
  Leaf(const Tensor& tensor, size_t first, size_t rows, const Kernels& kernels, Memory memory);

  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  size_t bytes() const;
  size_t products() const;  // to multiply one frame
  bool fine() const { return fine_; }
  bool has_strays() const { return strays_count_ > 0; }

  void apply(const float* x, size_t frames, float* y, MatrixWork& work, const End& end) const;

 private:
  void apply_int8(const float* x, size_t frames, Results y, MatrixWork& work) const;
  void apply_rest(const float* x, size_t frames, Results y, MatrixWork& work) const;
  void pack(const Tensor& tensor, size_t first);
  void pack_dense(const Tensor& tensor, size_t first);
  template <Form form>
  void pack_codes(const Tensor& tensor, size_t first);
  using Entries = std::array<uint8_t, 256>;  // by code
  template <Form form>
  void pack_row(const uint8_t* codes, size_t row, const Entries& entries);
  template <Form form>
  Entries entries_of(const Integers& levels) const;
  void add_strays(const uint8_t* codes, size_t row, const Integers& levels);
  void deal_strays(size_t first);
  void set_table(const Tensor& tensor);
  void set_row_tables(const Tensor& tensor, size_t first);
  size_t blocks() const;         // of rows
  size_t padded_blocks() const;  // in whole panels
  size_t chunk_bytes() const;
  size_t codes_size() const;
  size_t table_size() const;
  size_t scales_size() const;
  size_t stray_ends_size() const;
  void multiply(size_t first, size_t last, const Activations& x, Results y) const;
  void multiply(size_t first, size_t last, const float* x, size_t frames, Results y) const;

  const Kernels& kernels_;
  std::optional<Form> form_;  // empty: float
  bool fine_ = false;         // its input is two numbers of 8 bits
  size_t rows_, columns_, chunks_ = 0;
  std::vector<float> dense_;                         // [rows, columns]
  std::vector<uint8_t, LargePages<uint8_t>> codes_;  // from here on as in Weights
  std::vector<uint8_t> table_;
  std::vector<float> scale_;  // with the step of the table
  int32_t offset_ = 0;
  size_t strays_count_ = 0;
  std::vector<Stray> strays_;
  std::vector<uint32_t> stray_ends_;
};

// A matrix expression as a chain of leaves. The rightmost leaf is applied first.
class PackedMatrix {
 public:
  explicit operator bool() const { return !chain_.empty(); }
  size_t rows() const { return chain_.front()->rows(); }
  size_t columns() const { return chain_.back()->columns(); }
  size_t bytes() const { return bytes_; }  // without leaves that another matrix counts
  size_t products() const;                 // to multiply one frame
  void reserve(MatrixWork& work) const;

  // y [frames, rows] from x [frames, columns]; at most max_frames. It ends the layer, too.
  void apply(const float* x, size_t frames, float* y, MatrixWork& work, const End& end = {}) const;

 private:
  friend class Packer;

  std::vector<std::shared_ptr<const Leaf>> chain_;
  size_t bytes_ = 0;
};

// Packs the matrices of a model. A factor that several of them share is packed once.
class Packer {
 public:
  explicit Packer(const Kernels& kernels, Memory memory = Memory::taken)
      : kernels_(kernels), memory_(memory) {}

  Memory memory() const { return memory_; }

  PackedMatrix pack(const Tensor& tensor);

  // The factors after the leftmost; false if there is none.
  PackedMatrix pack_after_first(const Tensor& tensor);

  // `groups` matrices of equal numbers of rows, which share all factors but the leftmost.
  std::vector<PackedMatrix> split_rows(const Tensor& tensor, size_t groups);

  // The same for groups of so many rows each.
  std::vector<PackedMatrix> split_rows(const Tensor& tensor, const std::vector<size_t>& rows);

 private:
  using Chain = std::vector<std::shared_ptr<const Leaf>>;

  std::shared_ptr<const Leaf> pack_leaf(const Tensor& tensor, size_t first, size_t rows);
  void add_after_first(const Tensor& tensor, Chain& chain);
  Chain pack_factor(const std::shared_ptr<const Tensor>& factor);

  const Kernels& kernels_;
  Memory memory_;
  size_t bytes_ = 0;  // of all leaves so far
  // By the factor. Not by its address, which another factor may get once this one is freed.
  std::map<std::weak_ptr<const Tensor>, Chain, std::owner_less<>> shared_;
};

}  // namespace tinyvox
