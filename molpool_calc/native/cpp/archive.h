// The weights and settings of a potential as named arrays.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace molpool {

class Archive {
 public:
  Archive(std::int64_t count, const char* const* names, const double* const* data,
          const std::int64_t* sizes) {
    for (std::int64_t k = 0; k < count; ++k) {
      arrays_[names[k]] = std::vector<double>(data[k], data[k] + sizes[k]);
    }
  }

  bool has(const std::string& name) const { return arrays_.count(name) > 0; }

  const std::vector<double>& array(const std::string& name) const {
    auto found = arrays_.find(name);
    if (found == arrays_.end()) throw std::invalid_argument("missing: " + name);
    return found->second;
  }

  // Checked size, so that a wrong file cannot be read beyond its end.
  const std::vector<double>& array(const std::string& name, std::size_t size) const {
    const auto& values = array(name);
    if (values.size() != size) throw std::invalid_argument("wrong size: " + name);
    return values;
  }

  double number(const std::string& name) const { return array(name, 1)[0]; }
  int integer(const std::string& name) const { return static_cast<int>(number(name)); }

 private:
  std::map<std::string, std::vector<double>> arrays_;
};

}  // namespace molpool
